"""The command that writes CUB's attributes: a prior that fits its source, refusals."""

import numpy as np
import pytest
from PIL import Image

from jax_rcl.cli.prepare.cub import main
from jax_rcl.data.prior import WithPrior
from jax_rcl.data.published.cub import Cub200, attributes
from jax_rcl.data.records import labels_of, names_of

BIRDS = ("001.Black_footed_Albatross", "002.Sooty_Albatross")


@pytest.fixture
def folder(tmp_path):
    """Six photographs of two classes, every third one for testing."""
    root = tmp_path / "CUB_200_2011"
    numbers = range(1, 7)
    for bird in BIRDS:
        (root / "images" / bird).mkdir(parents=True)
    of = {i: BIRDS[i % 2] for i in numbers}
    for i in numbers:
        pixels = np.full((8, 9, 3), 10 * i, np.uint8)
        Image.fromarray(pixels).save(root / "images" / of[i] / f"{9 - i}.jpg")
    lists = {
        "classes": enumerate(BIRDS, start=1),
        "images": ((i, f"{of[i]}/{9 - i}.jpg") for i in numbers),
        "train_test_split": ((i, int(i % 3 > 0)) for i in numbers),
    }
    for name, rows in lists.items():
        text = "".join(f"{number} {word}\n" for number, word in rows)
        (root / f"{name}.txt").write_text(text)
    (root / "attributes").mkdir()
    rows = "".join(
        f"{i} {a} {int((i * a) % 7 == 1)} {1 + (i + a) % 4} 2.5\n"
        for i in numbers
        for a in range(1, 313)
    )
    (root / "attributes" / "image_attribute_labels.txt").write_text(rows)
    words = "".join(f"{a} has_wing::kind_{a}\n" for a in range(1, 313))
    (tmp_path / "attributes.txt").write_text(words)
    return root


def run(folder, out, *flags):
    return main([f"--folder={folder}", f"--out={out}", *flags])


def test_the_prior_is_that_of_the_training_images_in_their_order(
    folder, tmp_path, capsys
):
    out, source = tmp_path / "deep" / "cub.npz", Cub200(str(folder))
    assert run(folder, out) == 0
    with np.load(out, allow_pickle=False) as found:
        assert found["prior"].dtype == np.float32 and found["prior"].shape == (4, 312)
        np.testing.assert_array_equal(found["prior"], attributes(source))
        assert found["labels"].dtype == np.int32
        np.testing.assert_array_equal(found["labels"], labels_of(source))
        assert tuple(found["names"].tolist()) == names_of(source)
        assert found["attributes"][311] == "has_wing::kind_312"
    record = WithPrior(source, str(out))[2]
    np.testing.assert_array_equal(record["prior"], attributes(source)[2])
    output = capsys.readouterr().out
    assert f"{out}: 312 attributes of 4 training images, 1" in output
    assert [path.name for path in out.parent.iterdir()] == ["cub.npz"]


def test_the_prior_fits_no_other_source(folder, tmp_path):
    out = tmp_path / "cub.npz"
    assert run(folder, out) == 0
    with pytest.raises(ValueError, match=r"4 rows of prior for 2 records"):
        WithPrior(Cub200(str(folder), "test"), str(out))[0]
    path = folder / "images" / BIRDS[0] / "5.jpg"
    path.rename(path.with_name("99.jpg"))
    text = (folder / "images.txt").read_text().replace("/5.jpg", "/99.jpg")
    other = folder.parent / "other"
    folder.rename(other)
    (other / "images.txt").write_text(text)
    with pytest.raises(
        ValueError, match=r"the names in .* in the file and .* in the source"
    ):
        WithPrior(Cub200(str(other)), str(out))[0]


def test_numbers_that_are_not_the_published_ones_are_a_warning(
    folder, tmp_path, capsys
):
    (tmp_path / "attributes.txt").unlink()
    assert run(folder, tmp_path / "cub.npz") == 0
    output = capsys.readouterr().out
    assert "warning: train has 4 images, published are 5,994." in output
    assert "warning: test has 2 images, published are 5,794." in output
    assert "warning: there are 2 classes, published are 200." in output
    assert "there is no attributes.txt; attributes are numbered." in output


def test_bits_can_be_asked_to_be_certain(folder, tmp_path, capsys):
    assert run(folder, tmp_path / "cub.npz", "--least_certainty=3") == 0
    with np.load(tmp_path / "cub.npz") as found:
        np.testing.assert_array_equal(
            found["prior"], attributes(Cub200(str(folder)), 3)
        )
    assert run(folder, tmp_path / "other.npz", "--least_certainty=5") == 2
    assert "ConfigError: argument --least_certainty: " in capsys.readouterr().err


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(
    folder, tmp_path, capsys
):
    out = tmp_path / "cub.npz"
    out.write_bytes(b"something")
    assert run(folder, out) == 2
    assert "exists already; write --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"something"
    assert run(folder, out, "--overwrite") == 0
    with np.load(out) as found:
        assert len(found["prior"]) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [("cub.npy", "must be a file, FILE.npz"), ("CUB.npz", "CUB.npz must be a file")],
)
def test_files_that_cannot_be_written_are_refused(
    folder, tmp_path, capsys, name, message
):
    (tmp_path / "CUB.npz").mkdir()
    assert run(folder, tmp_path / name, "--overwrite") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("attributes/image_attribute_labels.txt", "does not exist; the folder to name"),
        ("images.txt", "https://data.caltech.edu/records/65de6-vp158"),
        ("images", "images does not exist"),
    ],
)
def test_a_folder_that_lacks_something_is_one_clear_error(
    folder, tmp_path, capsys, name, message
):
    (folder / name).rename(tmp_path / "elsewhere")
    assert run(folder, tmp_path / "cub.npz") == 2
    output = capsys.readouterr().err
    assert "ConfigError: --folder: " in output and message in output
    assert not (tmp_path / "cub.npz").exists()


def test_damaged_attributes_are_refused(folder, tmp_path, capsys):
    path = folder / "attributes" / "image_attribute_labels.txt"
    path.write_text(path.read_text() + "1 1 1 1 0.5\n")
    assert run(folder, tmp_path / "cub.npz") == 2
    assert "(it has 1873 rows of 1872); get it again" in capsys.readouterr().err
