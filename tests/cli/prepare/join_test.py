"""The command that orders features of other programs: one row for each record."""

import numpy as np
import pytest
from PIL import Image

from jax_rcl.cli.prepare.join import main
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.prior import WithPrior

CONFIG = """
from jax_rcl.config import node, parse
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.prior import WithPrior
from jax_rcl.data.sources import Synthetic
from jax_rcl.evaluate.knn import Neighbours

def get_config(arg=""):
    options = parse(arg, folder="")
    images = node(ImageFolder, options.folder, 2)
    return node(Neighbours, node(WithPrior, images, "later.npz"), node(Synthetic))
"""
IMAGENET = ("n01/n01_7.JPEG", "n01/n01_11.JPEG", "n02/n02_5.JPEG", "n02/n02_8.JPEG")
PATIENTS = ("p1/view1.png", "p1/view2.png", "p2/view1.png", "p2/view2.png")


@pytest.fixture
def images(tmp_path):
    """Makes a folder of images with these names, and gives the source of it."""

    def make(names):
        for name in names:
            file = tmp_path / "images" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2)).save(file)
        return ImageFolder(str(tmp_path / "images"), 2)

    return make


@pytest.fixture
def join(tmp_path):
    """Joins rows 0, 1, … of these names; gives the status and the file."""
    (tmp_path / "config.py").write_text(CONFIG)

    def run(own, *flags, key="features", part="train", **arrays):
        rows = 10 * np.arange(len(own))[:, None] + np.arange(3)
        features, out = tmp_path / "features.npz", tmp_path / "out" / "prior.npz"
        np.savez(features, **({key: rows, "names": np.array(own)} | arrays))
        status = main(
            [
                f"--features={features}",
                f"--config={tmp_path / 'config.py'}:folder={tmp_path / 'images'}",
                f"--part={part}",
                f"--out={out}",
                *flags,
            ]
        )
        return status, out

    return run


def order(source, out):
    """Which of the rows each record got; everything else is checked on the way."""
    priors = WithPrior(source, str(out)).priors
    assert priors.shape == (len(source), 3) and priors.dtype == np.float32
    np.testing.assert_array_equal(priors - priors[:, :1], [[0, 1, 2]] * len(source))
    with np.load(out) as file:
        assert tuple(file["names"]) == source.names
        np.testing.assert_array_equal(file["labels"], source.all_labels)
    return (priors[:, 0] / 10).astype(int).tolist()


@pytest.mark.parametrize("key", ["prior", "features"])
def test_base_names_are_enough_where_they_are_unique(images, join, key, capsys):
    source = images(IMAGENET)
    assert source.names[:2] == ("n01/n01_11.JPEG", "n01/n01_7.JPEG")
    names = ["n02_8.JPEG", "n02_5.JPEG", "n05_1.JPEG", "n01_7.JPEG", "n01_11.JPEG"]
    status, out = join(names, key=key)
    assert status == 0 and order(source, out) == [4, 3, 1, 0]
    output = capsys.readouterr().out
    assert "prior [4, 3], labels [4], names [4]" in output
    assert "4 of 5 rows, by the last 1 part(s)" in output and "'n01_11'" in output
    assert "warning" not in output


@pytest.mark.parametrize(
    "name", ["{}", "{}.png", "train/n01/{}.jpeg", "C:\\data\\n01\\{}.JPG", "./n01/{}"]
)
def test_suffixes_of_images_and_folders_above_do_not_count(images, join, name, capsys):
    source = images(("n01/a.7.JPEG", "n01/b.x.JPEG"))
    status, out = join([name.format("b.x"), name.format("a.7")])
    assert status == 0 and order(source, out) == [1, 0]
    assert "warning" not in capsys.readouterr().out


def test_folders_are_compared_where_base_names_repeat(images, join, capsys):
    source = images(PATIENTS)
    names = [f"CheXpert-v1.0-small/train/{name[:-3]}jpg" for name in PATIENTS]
    status, out = join(names[::-1])
    assert status == 0 and order(source, out) == [3, 2, 1, 0]
    assert "by the last 2 part(s) of their names, such as 'p1/view1'" in (
        capsys.readouterr().out
    )


def test_folders_are_compared_where_the_file_has_more_of_a_base_name(images, join):
    source = images(PATIENTS[1:3])
    status, out = join(PATIENTS)
    assert status == 0 and order(source, out) == [1, 2]


def test_other_folders_are_refused_unless_they_are_ignored(images, join, capsys):
    source = images(IMAGENET)
    names = ["n01/" + name.split("/")[1] for name in IMAGENET]
    status, out = join(names)
    assert status == 2 and not out.exists()
    output = capsys.readouterr().err
    assert "2 of 4 rows are of a file in another folder, first " in output
    assert "n01/n02_5.JPEG in the features and n02/n02_5.JPEG in the source" in output
    assert "--folders=ignored" in output
    status, out = join(names, "--folders=ignored")
    assert status == 0 and order(source, out) == [1, 0, 2, 3]


def test_records_without_a_row_are_counted_and_named(images, join, capsys):
    images(IMAGENET)
    status, out = join(["n02_8.JPEG", "n01_11.JPEG"])
    assert status == 2 and not out.exists()
    output = capsys.readouterr().err
    assert "has no row for 2 of 4 records: n01/n01_7.JPEG, n02/n02_5.JPEG" in output
    assert "The last 1 part(s)" in output and "look like 'n02_8.JPEG'" in output


def test_base_names_do_not_tell_folders_apart(images, join, capsys):
    images(PATIENTS)
    status, _ = join(["view1.png", "view2.png"])
    assert status == 2
    output = capsys.readouterr().err
    assert "4 of 4 records: p1/view1.png" in output and "The last 2 part(s)" in output


def test_rows_that_are_there_twice_are_counted_and_named(images, join, capsys):
    images(IMAGENET)
    names = [*IMAGENET, "n01/n01_7.png", "x/n01_7.JPEG", "n03/n03_1.JPEG", "n03_1.JPEG"]
    assert join(names)[0] == 2
    assert "more than one row for a record: 1 of 8 names: n01/n01_7.png" in (
        capsys.readouterr().err
    )
    assert join([*names[:4], *names[6:]])[0] == 0


def test_records_of_one_name_are_counted_and_named(images, join, capsys):
    images((*PATIENTS, "p1/view1.jpg"))
    assert join(PATIENTS)[0] == 2
    output = capsys.readouterr().err
    assert "names of the source are there more than once: 1 of 5 records" in output
    assert "p1/view1" in output


def test_a_source_without_names_cannot_be_joined(images, join, capsys):
    images(IMAGENET)
    assert join(IMAGENET, part="test")[0] == 2
    assert (
        "Synthetic(" in (output := capsys.readouterr().err) and "no `names`" in output
    )


@pytest.mark.parametrize(
    ("arrays", "output"),
    [
        ({"prior": np.zeros((4, 3))}, "'prior' and 'features' and 'names'; write it"),
        ({"names": np.array(["a"])}, "has 4 rows of features and 1 names"),
        ({"names": np.arange(4)}, "must be texts [m]"),
        ({"features": np.zeros(4)}, "'features' of"),
        (
            {"features": np.full((4, 3), np.nan)},
            "4 of 4 rows of prior in",
        ),
    ],
)
def test_files_that_cannot_be_joined_are_refused(images, join, capsys, arrays, output):
    images(IMAGENET)
    status, out = join(IMAGENET, **arrays)
    assert status == 2 and output in capsys.readouterr().err and not out.exists()


def test_files_without_names_or_features_are_refused(tmp_path, images, join, capsys):
    images(IMAGENET)
    assert join(IMAGENET, key="feature")[0] == 2
    assert "has 'names'; write it with names and one of" in capsys.readouterr().err
    np.save(tmp_path / "bare.npy", np.zeros((4, 3)))
    flags = [f"--config={tmp_path / 'config.py'}:folder={tmp_path / 'images'}"]
    out = [f"--out={tmp_path / 'prior.npz'}", "--part=train"]
    assert main([f"--features={tmp_path / 'bare.npy'}", *flags, *out]) == 2
    assert "has 'prior'; write it with names" in capsys.readouterr().err
    assert main([f"--features={tmp_path / 'gone.npz'}", *flags, *out]) == 2
    assert "there is no prior file" in capsys.readouterr().err


def test_a_file_is_not_written_over_unless_it_is_asked_for(images, join, capsys):
    source = images(IMAGENET)
    assert join(IMAGENET)[0] == 0
    assert join(IMAGENET[::-1])[0] == 2
    assert "exists already; write --overwrite" in capsys.readouterr().err
    status, out = join(IMAGENET[::-1], "--overwrite")
    assert status == 0 and order(source, out) == [2, 3, 1, 0]
