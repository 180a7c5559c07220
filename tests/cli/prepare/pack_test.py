"""The command that packs a source of a config: the same records, read without it."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from jax_rcl.cli.prepare import pack
from jax_rcl.cli.prepare.pack import main
from jax_rcl.data.crops import RandomCrops
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.packed import RECORDS, Packed
from jax_rcl.data.sources import Synthetic
from jax_rcl.data.stream import load

CONFIG = """
from jax_rcl.augment.compose import Chain, Views
from jax_rcl.config import node, parse
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.sources import Synthetic
from jax_rcl.data.textures import WithTexture
from jax_rcl.data.wrappers import Subset
from jax_rcl.evaluate.knn import Neighbours

def get_config(arg=""):
    options = parse(arg, count=150, folder="")
    config = node(
        Neighbours,
        node(Synthetic, classes=3, size=6, count=options.count),
        node(Subset, node(Synthetic, classes=3, size=6, channels=1, count=30), 0.5),
    )
    if options.folder:
        photographs = node(ImageFolder, options.folder, 6)
        with config.unlocked():
            config.test = node(WithTexture, photographs, options.folder, 4)
    return config
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return path


def run(config, out, *flags, part="train"):
    return main([f"--config={config}", f"--part={part}", f"--out={out}", *flags])


def test_packed_records_are_those_of_the_source(config, tmp_path, capsys):
    out = tmp_path / "deep" / "packed"
    assert run(config, out) == 0
    assert "150 records of image, label; 17.1kB." in capsys.readouterr().out
    source, packed = Synthetic(classes=3, size=6, count=150), Packed(str(out))
    assert packed.class_names == source.class_names
    first, second = load(source), load(packed)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
        assert first[key].dtype == second[key].dtype
    assert sorted(p.name for p in out.iterdir()) == ["image.npy", "label.npy", RECORDS]
    assert [p.name for p in out.parent.iterdir()] == ["packed"]


def test_sources_inside_of_a_config_are_found_and_overridden(config, tmp_path):
    assert run(config, tmp_path / "a", part="test") == 0
    assert Packed(str(tmp_path / "a")).arrays["image"].shape == (15, 6, 6, 1)
    assert run(config, tmp_path / "b", part="test.source") == 0
    assert len(Packed(str(tmp_path / "b"))) == 30
    assert run(f"{config}:count=12", tmp_path / "c", "--config.train.size=4") == 0
    assert Packed(str(tmp_path / "c")).arrays["image"].shape == (12, 4, 4, 3)


CROPS = """
from jax_rcl.config import node
from jax_rcl.data.crops import RandomCrops
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.frames import Framed
from jax_rcl.evaluate.knn import Neighbours


def get_config(arg=""):
    framed = node(Framed, node(ImageFolder, "photos", None), 12)
    return node(Neighbours, node(RandomCrops, framed, 6), framed)
"""


def test_photographs_are_packed_in_their_shapes_and_cut_as_the_files_are(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for number, shape in enumerate(((8, 12), (11, 7), (5, 5))):
        pixels = np.random.default_rng(number).integers(0, 256, (*shape, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "a" / f"{number}.png")
    config, out = tmp_path / "crops.py", tmp_path / "out"
    config.write_text(CROPS)
    assert run(config, out) == 2
    assert "what it cuts, --part=train.source, photographs" in capsys.readouterr().err
    assert run(config, out, part="train.source") == 0
    packed = Packed(str(out))
    assert packed.arrays["image"].shape == (3, 12, 12, 3)
    assert packed.arrays["extent"].tolist() == [[8, 12], [11, 7], [5, 5]]
    files = ImageFolder("photos", None)
    for index in range(3):
        draws = {"seed": 1, "step": 2, "place": 3}
        crops = [
            RandomCrops(source, 6).draw_record(index, **draws)["image"]
            for source in (packed, files)
        ]
        np.testing.assert_array_equal(*crops)


def test_every_key_of_the_records_is_packed(config, tmp_path):
    for name in ("a/1.png", "b/2.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8), (9, 9, 9)).save(path)
    out = tmp_path / "out"
    assert run(f"{config}:folder={tmp_path / 'photos'}", out, part="test") == 0
    record = Packed(str(out))[1]
    assert record["image"].shape == (6, 6, 3) and record["texture"].shape == (4, 4, 3)
    assert record["label"] == 1


def test_a_finished_folder_of_the_same_source_is_left_as_it_is(
    config, tmp_path, capsys
):
    out = tmp_path / "out"
    assert run(config, out) == 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run(config, out) == 0
    assert "150 records; nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_records_of_another_source_are_not_replaced(config, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(config, out) == 0
    assert run(f"{config}:count=12", out) == 2
    output = capsys.readouterr().err
    assert "holds records of another source (source.count: 150 -> 12)" in output
    assert len(Packed(str(out))) == 150


def test_a_folder_of_something_else_is_not_replaced(config, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    assert run(config, out) == 2
    assert "holds no records.json" in capsys.readouterr().err
    assert (out / "thesis.tex").read_text() == "years of work"
    assert run(config, out / "thesis.tex") == 2


def test_what_fails_or_is_stopped_leaves_no_folder(
    config, tmp_path, monkeypatch, capsys
):
    def stopped(source, **settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pack, "load", stopped)
        assert run(config, tmp_path / "out") == 130
    assert "the same command continues" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.py"]
    left = tmp_path / ".out.partial"  # as a call leaves it that is killed
    left.mkdir()
    (left / "image.npy").write_bytes(b"half")
    assert run(config, tmp_path / "out") == 0
    assert not left.exists() and len(Packed(str(tmp_path / "out"))) == 150


def test_a_disk_without_room_is_said_before_it_is_full(
    config, tmp_path, monkeypatch, capsys
):
    usage = pack.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(pack.shutil, "disk_usage", lambda folder: usage)
    assert run(config, tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert "the records take 16.8kB, but the disk" in message
    assert "(in check_room, jax_rcl/cli/prepare/pack.py:" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("part", "output"),
    [
        ("trains", "--part=trains: there is no 'trains'; there are: .*'train'"),
        ("train.size", "--part=train.size is 6, not a source"),
        ("train.size.x", "there is no 'x'"),
        ("when", "--part=when is Every, not a source"),
    ],
)
def test_a_part_that_is_no_source_is_refused(config, tmp_path, capsys, part, output):
    assert run(config, tmp_path / "out", part=part) == 2
    message = capsys.readouterr().err
    assert re.search(output, message), message


def test_what_the_source_refuses_is_said_with_its_part(config, tmp_path, capsys):
    gone = tmp_path / "gone"
    config = f"{config}:folder={gone}"
    assert run(config, tmp_path / "out", part="test.source") == 2
    assert f"test.source: ImageFolder.folder {gone} is not" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_arguments_that_are_not_known_are_refused(config, tmp_path, capsys):
    assert run(config, tmp_path / "out", "--vrify=x") == 2
    assert "unknown argument --vrify" in capsys.readouterr().err
    for flags in ([], [f"--config={config}"], ["--verify=a", "--out=b"]):
        assert main(flags) == 2
    assert capsys.readouterr().err.count("ConfigError: --") == 3


def test_verify_finds_one_changed_byte(config, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(config, out) == 0
    assert main([f"--verify={out}"]) == 0
    assert "150 records, 2 file(s), all as written" in capsys.readouterr().out
    content = bytearray((out / "image.npy").read_bytes())
    content[-1] ^= 1
    (out / "image.npy").write_bytes(content)
    assert len(Packed(str(out))) == 150
    assert main([f"--verify={out}"]) == 1
    assert "image.npy changed since the records were" in capsys.readouterr().err
    (out / "image.npy").write_bytes(content[:-5])
    assert main([f"--verify={out}"]) == 2
    assert "image.npy is damaged" in capsys.readouterr().err
    assert main([f"--verify={tmp_path}"]) == 2
    assert "holds no records.json" in capsys.readouterr().err


def test_records_say_where_they_are_from(config, tmp_path):
    assert run(config, tmp_path / "out") == 0
    description = json.loads((tmp_path / "out" / RECORDS).read_text())
    assert description["source"]["class"] == "jax_rcl.data.sources:Synthetic"
    assert description["count"] == 150 and description["arrays"]["image"]["shape"] == [
        150,
        6,
        6,
        3,
    ]
