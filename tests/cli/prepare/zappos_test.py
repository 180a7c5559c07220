"""The command that writes Zappos' attributes: a prior without the label, refusals."""

import csv

import numpy as np
import pytest
from PIL import Image

from jax_rcl.cli.prepare.zappos import main
from jax_rcl.data.prior import WithPrior
from jax_rcl.data.published.zappos import CLASSES, Zappos, attributes
from jax_rcl.data.records import labels_of, names_of


@pytest.fixture
def folder(tmp_path):
    """Ten shoes of five kinds; each has a column of its kind, and 126 others."""
    root = tmp_path / "zappos"
    (root / "ut-zap50k-data").mkdir(parents=True)
    (root / "ut-zap50k-images" / "Shoes").mkdir(parents=True)
    table = [["CID", "SubCategory"]]
    bits = [["CID", *(f"SubCategory.{k}" for k in CLASSES)]]
    bits[0] += [f"Material.{j}" for j in range(126)]
    for i in range(10):
        table.append([f"{i}-{i}", CLASSES[i % 5]])
        kind = [int(k == i % 5) for k in range(21)]
        bits.append([f"{i}-{i}", *kind, *((i * j + i) % 2 for j in range(126))])
        image = Image.fromarray(np.full((9, 12, 3), 20 * i, np.uint8))
        image.save(root / "ut-zap50k-images" / "Shoes" / f"{i}.{i}.jpg")
    for name, rows in (("meta-data", table), ("meta-data-bin", bits)):
        path = root / "ut-zap50k-data" / f"{name}.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return root


def run(folder, out, *flags):
    return main([f"--folder={folder}", f"--out={out}", *flags])


def test_the_prior_is_that_of_the_training_images_in_their_order(
    folder, tmp_path, capsys
):
    out, source = tmp_path / "zappos.npz", Zappos(str(folder))
    assert run(folder, out) == 0
    with np.load(out, allow_pickle=False) as found:
        assert found["prior"].dtype == np.float32 and found["prior"].shape == (7, 126)
        np.testing.assert_array_equal(found["prior"], attributes(source))
        assert found["labels"].dtype == np.int32
        np.testing.assert_array_equal(found["labels"], labels_of(source))
        assert tuple(found["names"].tolist()) == names_of(source)
        assert found["attributes"].tolist() == [f"Material.{j}" for j in range(126)]
    record = WithPrior(source, str(out))[3]
    np.testing.assert_array_equal(record["prior"], attributes(source)[3])
    output = capsys.readouterr().out
    assert f"{out}: 126 attributes of 7 training images" in output
    assert "warning: train has 7 images, published are 35,017." in output
    assert "warning: test has 3 images, published are 15,008." in output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ut-zap50k-data/meta-data-bin.csv", "meta-data-bin.csv does not exist"),
        (
            "ut-zap50k-data",
            "https://vision.cs.utexas.edu/projects/finegrained/utzap50k",
        ),
        ("ut-zap50k-images", "ut-zap50k-images does not exist"),
        ("ut-zap50k-images/Shoes/3.3.jpg", "lacks the images of 1 of 10 rows: 3-3"),
    ],
)
def test_a_folder_that_lacks_something_is_one_clear_error(
    folder, tmp_path, capsys, name, message
):
    (folder / name).rename(tmp_path / "elsewhere")
    assert run(folder, tmp_path / "zappos.npz") == 2
    output = capsys.readouterr().err
    assert "ConfigError: --folder: " in output and message in output
    assert not (tmp_path / "zappos.npz").exists()


def test_a_column_of_the_label_under_another_name_is_refused(folder, tmp_path, capsys):
    path = folder / "ut-zap50k-data" / "meta-data-bin.csv"
    path.write_text(path.read_text().replace("SubCategory.Ankle", "Ankle"))
    assert run(folder, tmp_path / "zappos.npz") == 2
    assert "has 127 columns beside CID" in capsys.readouterr().err
