"""The command that makes textures: from which pixels, what is kept, what fails."""

import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jax_rcl import parallel
from jax_rcl.cli.prepare import synthesis
from jax_rcl.cli.prepare.synthesis import Job, squares_of
from jax_rcl.cli.prepare.textures import main
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.stream import load
from jax_rcl.data.textures import WithTexture

SMALL = ("--size=14", "--patch=8")
PROGRAM = """#!{python}
import json, sys
from PIL import Image
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
first, second = (Image.open(path) for path in sys.argv[6:8])
assert first.size == second.size == (8, 8), "squares"
if first.getpixel((0, 0))[0] == 30:
    sys.exit("panicked at a photograph of value 30")
if first.getpixel((0, 0))[0] != 40:
    first.resize((int(sys.argv[2]),) * 2).save(sys.argv[4])
"""


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Programs for one device compile faster."""
    real = parallel.make_mesh
    monkeypatch.setattr(parallel, "make_mesh", lambda: real(jax.devices()[:1]))
    return lambda: monkeypatch.setattr(parallel, "make_mesh", real)


def photograph(number: int, height: int = 20, width: int = 30) -> np.ndarray:
    """Every pixel has its own colour: row, column and number of the image."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.full_like(y, number)], -1).astype(np.uint8)


@pytest.fixture
def photos(tmp_path):
    """Five photographs in two classes."""
    for i in range(5):
        path = tmp_path / "photos" / f"{'ab'[i // 3]}" / f"{i}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(i)).save(path)
    return tmp_path / "photos"


def run(photos, out, *flags):
    return main([f"--images={photos}", f"--out={out}", *SMALL, *flags])


def textures(out):
    """Pixels of all textures below a folder, by path."""
    return {
        str(path.relative_to(out)): np.asarray(Image.open(path))
        for path in sorted(out.rglob("*.png"))
    }


def same(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


# The squares.


def test_one_square_is_in_the_middle_and_one_anywhere():
    image = Image.fromarray(photograph(7))
    places = set()
    for i in range(300):
        middle, other = squares_of(image, 8, np.random.default_rng(i).bytes(32))
        np.testing.assert_array_equal(middle, photograph(7)[6:14, 11:19])
        y, x = other[0, 0, :2].tolist()
        np.testing.assert_array_equal(other, photograph(7)[y : y + 8, x : x + 8])
        places.add((y, x))
    ys, xs = (set(values) for values in zip(*places, strict=True))
    assert ys == set(range(13)) and xs == set(range(23))


@pytest.mark.parametrize(("height", "width"), [(5, 7), (3, 40), (1, 1), (40, 7)])
def test_photographs_smaller_than_the_squares_are_enlarged(height, width):
    image = Image.fromarray(photograph(7, height, width))
    pair = squares_of(image, 8, bytes(32))
    assert pair.shape == (2, 8, 8, 3) and (pair[..., 2] == 7).all()


def test_what_is_drawn_depends_on_seed_class_and_file_alone():
    job = Job(Path("/one/train/n01/x.JPEG"), Path("t"))
    assert job.digest(0) == Job(Path("other/n01/x.JPEG"), Path("u")).digest(0)
    others = [job.digest(1), Job(Path("n02/x.JPEG"), Path("t")).digest(0)]
    assert job.digest(0) not in others


# On the device.


def test_textures_are_made_of_the_pixels_of_their_photograph(photos, tmp_path, capsys):
    assert run(photos, tmp_path / "out") == 0
    assert "textures of 5 photographs; 5 made, 0 were there" in capsys.readouterr().out
    found = textures(tmp_path / "out")
    assert list(found) == ["a/0.png", "a/1.png", "a/2.png", "b/3.png", "b/4.png"]
    for i, texture in enumerate(found.values()):
        assert texture.shape == (14, 14, 3) and (texture[..., 2] == i).all()
        assert len(np.unique(texture.reshape(-1, 3), axis=0)) > 14
    photographs = ImageFolder(str(photos), 8)
    rows = load(WithTexture(photographs, str(tmp_path / "out"), 14))
    np.testing.assert_array_equal(rows["texture"], np.stack(list(found.values())))


def test_a_second_call_changes_nothing_and_a_third_makes_what_is_missing(
    photos, tmp_path, capsys
):
    out = tmp_path / "out"
    assert run(photos, out) == 0
    first = textures(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert run(photos, out) == 0
    assert "5 photographs; nothing to do" in capsys.readouterr().out
    (out / "b" / "3.png").unlink()
    assert run(photos, out) == 0
    assert "1 made, 4 were there" in capsys.readouterr().out
    # The texture is the same although it was alone in its batch.
    assert same(textures(out), first)
    kept = [path for path in times if path.name != "3.png"]
    assert all(path.stat().st_mtime_ns == times[path] for path in kept)


@pytest.mark.slow
def test_batches_and_devices_have_no_influence(
    photos, tmp_path, monkeypatch, one_device
):
    assert run(photos, tmp_path / "one") == 0
    monkeypatch.setattr(synthesis, "SHARE", 2)
    assert run(photos, tmp_path / "two", "--workers=1") == 0
    one_device()  # now all of them
    assert run(photos, tmp_path / "all") == 0
    first = textures(tmp_path / "one")
    assert same(textures(tmp_path / "two"), first)
    assert same(textures(tmp_path / "all"), first)
    assert run(photos, tmp_path / "seed", "--seed=1") == 0
    assert not same(textures(tmp_path / "seed"), first)


def test_train_and_val_are_done_together_and_alike(photos, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(photos, both / "train")
    shutil.copytree(photos, both / "val")
    assert run(both, tmp_path / "out") == 0
    assert run(photos, tmp_path / "alone") == 0
    alone = textures(tmp_path / "alone")
    assert same(textures(tmp_path / "out" / "train"), alone)
    assert same(textures(tmp_path / "out" / "val"), alone)


def test_a_damaged_photograph_is_named_and_the_others_are_done(
    photos, tmp_path, capsys
):
    (photos / "a" / "1.bmp").write_bytes(b"no image")
    assert run(photos, tmp_path / "out") == 1
    output = capsys.readouterr()
    assert "4 made" in output.out and "could not be made: 1" in output.err
    assert "a/1.bmp does not decode" in output.err
    assert "a/1.png" not in textures(tmp_path / "out")
    assert len(textures(tmp_path / "out")) == 4


# By a program.


@pytest.fixture
def program(tmp_path):
    """A stand-in for texture-synthesis that notes how it is called."""
    path = tmp_path / "texture-synthesis"
    log = str(tmp_path / "log")
    path.write_text(PROGRAM.format(python=sys.executable, log=log))
    path.chmod(0o755)
    return path


def test_the_program_is_called_as_the_authors_call_it(
    photos, tmp_path, program, capsys
):
    out = tmp_path / "out"
    assert run(photos, out, f"--tool={program}", "--workers=2") == 0
    assert "5 made" in capsys.readouterr().out
    calls = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(calls) == 5
    for call in calls:
        assert call[:3] == ["--out-size", "14", "--out"] and call[4] == "generate"
        assert len(call) == 7 and all(p.endswith(".png") for p in (call[3], *call[5:]))
        assert not Path(call[3]).parent.exists()  # nothing temporary is left
    found = textures(out)
    assert len(found) == 5 and all(x.shape == (14, 14, 3) for x in found.values())
    assert run(photos, out, f"--tool={program}") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_failures_of_the_program_are_named_at_the_end(
    photos, tmp_path, program, capsys
):
    out = tmp_path / "out"
    for name, value in (("a/1", 30), ("b/4", 40)):
        Image.new("RGB", (20, 20), (value, 0, 0)).save(photos / f"{name}.bmp")
    assert run(photos, out, f"--tool={program}") == 1
    output = capsys.readouterr()
    assert "3 made" in output.out and "could not be made: 2" in output.err
    assert "a/1.bmp" in output.err and "ended with 1: panicked at" in output.err
    assert "b/4.bmp" in output.err and "wrote no image" in output.err
    assert list(textures(out)) == ["a/0.png", "a/2.png", "b/3.png"]


def test_a_program_that_does_not_exist_is_said_before_anything_is_done(
    photos, tmp_path, capsys
):
    assert run(photos, tmp_path / "out", "--tool=texture-sinthesis") == 2
    assert "--tool texture-sinthesis is not a program" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Refusals.


def test_textures_of_one_folder_are_made_alike(photos, tmp_path, capsys):
    assert run(photos, tmp_path / "out") == 0
    assert run(photos, tmp_path / "out", "--patch=10") == 2
    output = capsys.readouterr().err
    assert "made with --tool=quilting --size=14 --patch=8 --seed=0" in output


def test_two_photographs_do_not_share_a_texture(photos, tmp_path, capsys):
    Image.fromarray(photograph(0)).save(photos / "a" / "0.png")
    assert run(photos, tmp_path / "out") == 2
    assert "would share the texture" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "output"),
    [
        (["--size=0"], "argument --size: 0 must be a whole number from 1"),
        (["--workers=0"], "argument --workers: 0 must be a whole number from 1"),
    ],
)
def test_counts_that_cannot_be_are_refused(photos, tmp_path, capsys, flags, output):
    assert run(photos, tmp_path / "out", *flags) == 2
    assert output in capsys.readouterr().err


def test_settings_that_cannot_work_are_refused(photos, tmp_path, capsys):
    assert run(photos, tmp_path / "out", "--patch=1") == 2
    assert "--size, --patch: Quilting" in capsys.readouterr().err


def test_folders_that_do_not_fit_are_refused(photos, tmp_path, capsys):
    assert run(photos, photos / "textures") == 2
    assert "lies inside --images" in capsys.readouterr().err
    assert run(tmp_path / "gone", tmp_path / "out") == 2
    assert "--images " in capsys.readouterr().err
    assert run(photos / "a", tmp_path / "out") == 2
    assert (
        "has no sub-folders; --images expects one for each" in capsys.readouterr().err
    )
    (tmp_path / "empty" / "a").mkdir(parents=True)
    assert run(tmp_path / "empty", tmp_path / "out") == 2
    assert "has no images in its class folders" in capsys.readouterr().err
