"""Sources in memory: records, labels and classes are those of the files."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import tarfile
from collections import Counter

import numpy as np
import pytest

from jax_rcl.core import Source
from jax_rcl.data import formats, sources
from jax_rcl.data.archives import Archive
from jax_rcl.data.published.files import IdxFiles
from jax_rcl.data.records import check_labels, labels_of
from jax_rcl.data.sources import Cifar, Digits, Idx, Npz, Synthetic


def cifar_archive(folder, name: str, members: dict[str, bytes]) -> Archive:
    path = folder / name
    with tarfile.open(path, "w:gz") as file:
        for member, content in members.items():
            info = tarfile.TarInfo(f"folder/{member}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    content = path.read_bytes()
    return Archive(name, "", hashlib.sha256(content).hexdigest(), len(content))


def cifar_records(*labels: tuple[int, ...]) -> bytes:
    """Records whose pixels all have the value of the last label."""
    return b"".join(bytes(row) + bytes([row[-1]]) * 3072 for row in labels)


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    "source", [Digits("train"), Digits("test"), Synthetic(), Synthetic(3, 8, 1, 9)]
)
def test_records_are_what_a_source_promises(source):
    assert isinstance(source, Source)
    labels = labels_of(source)
    assert labels.dtype == np.int32 and labels.shape == (len(source),)
    for index in (0, 1, len(source) - 1):
        record = source[index]
        assert record["image"].dtype == np.uint8 and record["image"].ndim == 3
        assert record["label"].dtype == np.int32 and record["label"].shape == ()
        assert record["label"] == labels[index]
    check_labels(source)
    with pytest.raises(IndexError):
        source[len(source)]


def test_sources_are_their_settings():
    for source in (Digits(), Cifar(), Idx(), Npz("set.npz"), Synthetic()):
        again = type(source)(**vars(source))
        assert again == source and hash(again) == hash(source)
        assert pickle.loads(pickle.dumps(source)) == source
    assert Digits(seed=1) != Digits()
    # Reading does not change what a source is.
    read = Digits()
    len(read)
    assert read == Digits() and hash(read) == hash(Digits())


def test_digits_splits_are_balanced_and_together_the_whole_set():
    train, test = Digits("train"), Digits("test")
    assert len(train) + len(test) == 1797
    assert train[0]["image"].shape == (8, 8, 1)
    whole = Counter(labels_of(train).tolist()) + Counter(labels_of(test).tolist())
    for label, held in Counter(labels_of(test).tolist()).items():
        assert held == round(0.2 * whole[label])
    # Some of the drawn digits are alike, so rows are compared as multisets.
    parts = [Digits(split, 0.5, seed=3) for split in ("train", "test")]
    rows = [Counter(p[i]["image"].tobytes() for i in range(len(p))) for p in parts]
    assert rows[0] + rows[1] == Counter(
        source[i]["image"].tobytes()
        for source in (train, test)
        for i in range(len(source))
    )


def test_digits_fill_the_range_of_bytes():
    images = Digits("test").arrays.images
    assert images.min() == 0 and images.max() == 255
    assert len(np.unique(images)) == 17


def test_digits_of_another_seed_hold_out_others():
    one, two = (Digits("test", seed=seed).arrays.images for seed in (0, 1))
    assert not np.array_equal(one, two)


def test_digits_cannot_hold_out_everything():
    with pytest.raises(ValueError, match=r"Digits\.held_out 1\.0 must be in \(0, 1\)"):
        Digits(held_out=1.0)


def test_cifar_10_reads_five_train_batches_and_one_test_batch(tmp_path, monkeypatch):
    members = {
        **{f"data_batch_{i}.bin": cifar_records((i,), (i + 4,)) for i in range(1, 6)},
        "test_batch.bin": cifar_records((7,)),
        "batches.meta.txt": "\n".join("abcdefghij").encode() + b"\n\n",
    }
    archive = cifar_archive(tmp_path, "ten-binary.tar.gz", members)
    monkeypatch.setitem(sources.CIFAR, 10, archive)
    train = Cifar(10, "train", folder=str(tmp_path))
    assert labels_of(train).tolist() == [1, 5, 2, 6, 3, 7, 4, 8, 5, 9]
    assert train.class_names == tuple("abcdefghij")
    assert (train[3]["image"] == 6).all() and train[3]["image"].shape == (32, 32, 3)
    assert labels_of(Cifar(10, "test", folder=str(tmp_path))).tolist() == [7]


def test_cifar_100_has_coarse_and_fine_labels(tmp_path, monkeypatch):
    members = {
        "train.bin": cifar_records((1, 42), (0, 17)),
        "test.bin": cifar_records((1, 3)),
        "fine_label_names.txt": "\n".join(f"fine{i}" for i in range(100)).encode(),
        "coarse_label_names.txt": b"plants\nanimals\n",
    }
    archive = cifar_archive(tmp_path, "hundred-binary.tar.gz", members)
    monkeypatch.setitem(sources.CIFAR, 100, archive)
    fine = Cifar(100, folder=str(tmp_path))
    coarse = Cifar(100, folder=str(tmp_path), labels="coarse")
    assert labels_of(fine).tolist() == [42, 17] and len(fine.class_names) == 100
    assert labels_of(coarse).tolist() == [1, 0]
    assert coarse.class_names == ("plants", "animals")
    np.testing.assert_array_equal(fine[1]["image"], coarse[1]["image"])


def python_cifar(classes: int) -> dict[str, bytes]:
    """CIFAR for Python: record i has the label i and pixels of that value."""

    def batch(*values: int) -> bytes:
        data = np.repeat(np.array(values, np.uint8)[:, None], 3072, axis=1)
        labels = {"labels": list(values)}
        if classes == 100:
            labels = {"fine_labels": list(values), "coarse_labels": [1] * len(values)}
        # Python 2 wrote bytes for texts, which read as text or, here, stay bytes.
        content = {b"data": data} | {k.encode(): v for k, v in labels.items()}
        return pickle.dumps(content, protocol=2)

    if classes == 100:
        names = {"fine_label_names": list("abcd"), "coarse_label_names": ["x", "y"]}
        batches = {"train": batch(3, 1), "test": batch(2)}
        return batches | {"meta": pickle.dumps(names, protocol=2)}
    names = {"label_names": list("abcdefghij")}
    batches = {f"data_batch_{i}": batch(i, i + 4) for i in range(1, 6)}
    batches |= {"test_batch": batch(7)}
    return batches | {"batches.meta": pickle.dumps(names, protocol=2)}


@pytest.mark.parametrize("place", ["archive", "beside", "itself"])
@pytest.mark.parametrize(
    ("classes", "unpacked"), [(10, "cifar-10-batches-py"), (100, "cifar-100-python")]
)
def test_cifar_for_python_is_read_where_torchvision_puts_it(
    tmp_path, monkeypatch, classes, unpacked, place
):
    members, folder = python_cifar(classes), tmp_path
    counts = {"train": 10 if classes == 10 else 2, "test": 1}
    monkeypatch.setattr(formats, "CIFAR_IMAGES", counts)
    if place == "archive":
        archive = cifar_archive(tmp_path, f"cifar-{classes}-python.tar.gz", members)
        monkeypatch.setitem(sources.CIFAR_PYTHON, classes, archive)
    else:
        (tmp_path / unpacked).mkdir()
        for name, content in members.items():
            (tmp_path / unpacked / name).write_bytes(content)
        folder = tmp_path / unpacked if place == "itself" else tmp_path
    train, test = (Cifar(classes, x, folder=str(folder)) for x in ("train", "test"))
    labels = [1, 5, 2, 6, 3, 7, 4, 8, 5, 9] if classes == 10 else [3, 1]
    assert labels_of(train).tolist() == labels
    assert [train[i]["image"][9, 9, 2] for i in range(len(train))] == labels
    assert labels_of(test).tolist() == [7 if classes == 10 else 2]
    assert train.class_names[:4] == tuple("abcd")
    if classes == 100:
        coarse = Cifar(100, "train", folder=str(folder), labels="coarse")
        assert labels_of(coarse).tolist() == [1, 1]
        assert coarse.class_names == ("x", "y")


def test_cifars_binary_folder_is_read_and_what_it_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(formats.CIFAR_IMAGES, "test", 2)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "test_batch.bin").write_bytes(cifar_records((7,), (2,)))
    (folder / "batches.meta.txt").write_bytes("\n".join("abcdefghij").encode())
    assert labels_of(Cifar(10, "test", folder=str(tmp_path))).tolist() == [7, 2]
    with pytest.raises(ValueError, match=r"cifar-10-batches-bin lacks data_batch_1\."):
        len(Cifar(10, "train", folder=str(tmp_path)))


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, content in python_cifar(100).items():
        (folder / name).write_bytes(content)
    (folder / "train").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match=r"it names os\.system"):
        len(Cifar(100, folder=str(tmp_path)))


@pytest.mark.parametrize("place", ["mnist", "MNIST/raw", "."])
def test_mnist_is_read_where_torchvision_puts_it_or_in_the_folder(tmp_path, place):
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    images = gzip.compress(idx(np.full((2, 3, 3), 5)))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(images)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([1, 0])))
    assert labels_of(Idx("mnist", "test", folder=str(tmp_path))).tolist() == [1, 0]


def test_a_short_batch_that_was_unpacked_is_refused(tmp_path):
    for name, content in python_cifar(10).items():
        (tmp_path / name).write_bytes(content)
    words = "holds 10 images in data_batch_1, .*; CIFAR-10 has 50,000. Unpack"
    with pytest.raises(ValueError, match=words):
        len(Cifar(10, "train", folder=str(tmp_path)))


def test_the_archive_itself_may_be_named_and_no_other_file(tmp_path, monkeypatch):
    archive = cifar_archive(tmp_path, "cifar-10-python.tar.gz", python_cifar(10))
    monkeypatch.setitem(sources.CIFAR_PYTHON, 10, archive)
    path = str(tmp_path / archive.name)
    assert labels_of(Cifar(10, "test", folder=path)).tolist() == [7]
    words = "gz is a file, and not .* or cifar-100-python.tar.gz; name the folder that"
    with pytest.raises(ValueError, match=words):
        len(Cifar(100, folder=path))
    with pytest.raises(ValueError, match="gz is a file; name the folder"):
        len(Idx(folder=path))


def test_what_is_missing_is_said_with_all_that_may_lie_there(tmp_path, monkeypatch):
    url = (tmp_path / "nowhere.tar.gz").as_uri()
    archive = dataclasses.replace(sources.CIFAR[10], url=url)
    monkeypatch.setitem(sources.CIFAR, 10, archive)
    words = "Get cifar-10-binary.* Instead of it cifar-10-python.tar.gz, cifar-10-batc"
    with pytest.raises(FileNotFoundError, match=words):
        len(Cifar(10, folder=str(tmp_path / "data")))


def test_cifar_10_has_no_coarse_labels():
    with pytest.raises(ValueError, match="no coarse labels"):
        Cifar(10, labels="coarse")


def test_idx_finds_files_in_the_data_folder_named_by_the_environment(
    tmp_path, monkeypatch
):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(np.full((2, 3, 3), 5)))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([1, 0])))
    monkeypatch.setenv("JAX_RCL_DATA", str(tmp_path))
    source = Idx("mine", "test")
    assert source[0]["image"].shape == (3, 3, 1) and (source[1]["image"] == 5).all()
    assert labels_of(source).tolist() == [1, 0]


def test_idx_downloads_the_sets_it_knows(tmp_path, monkeypatch):
    archives = []
    for name, array in (
        ("train-images-idx3-ubyte.gz", np.zeros((2, 3, 3))),
        ("train-labels-idx1-ubyte.gz", np.array([0, 1])),
    ):
        content = gzip.compress(idx(array))
        (tmp_path / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        archives.append(Archive(name, (tmp_path / name).as_uri(), digest, len(content)))
    monkeypatch.setitem(sources.IDX, "toy", IdxFiles(("no", "yes"), tuple(archives)))
    source = Idx("toy", folder=str(tmp_path / "data"))
    assert len(source) == 2 and source.class_names == ("no", "yes")
    assert (tmp_path / "data" / "toy" / "train-images-idx3-ubyte.gz").exists()


def test_idx_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        len(Idx("unheard-of", folder=str(tmp_path)))
    for part in (str(tmp_path / "unheard-of"), "train-images-idx3-ubyte", "'mnist'"):
        assert part in str(caught.value)


@pytest.mark.skipif(
    not (sources.SYSTEM_FOLDER / "fashion-mnist").exists(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_fashion_mnist_of_debian_is_found_and_balanced(tmp_path):
    source = Idx("fashion-mnist", "test", folder=str(tmp_path))
    assert len(source) == 10_000 and source[0]["image"].shape == (28, 28, 1)
    assert np.bincount(labels_of(source)).tolist() == [1000] * 10
    assert source.class_names[0] == "T-shirt/top" and len(source.class_names) == 10
    assert list(tmp_path.iterdir()) == []


def test_npz_gives_its_arrays_and_names_classes(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", x=images, y=np.array([0, 2, 1]), gray=images[..., 0])
    file = str(tmp_path / "set.npz")
    source = Npz(file, "x", "y")
    np.testing.assert_array_equal(source[1]["image"], images[1])
    assert source[1]["label"] == 2 and source.class_names == ("0", "1", "2")
    assert Npz(file, "x", "y", names=("a", "b", "c")).class_names == ("a", "b", "c")
    np.testing.assert_array_equal(
        Npz(file, "gray", "y")[1]["image"], images[1, ..., :1]
    )


def test_npz_without_labels_gives_images_only(tmp_path):
    np.savez(tmp_path / "set.npz", image=np.zeros((3, 4, 4, 3), np.uint8))
    source = Npz(str(tmp_path / "set.npz"), label=None)
    assert source[0].keys() == {"image"} and source.class_names == ()
    with pytest.raises(ValueError, match="have no 'label'"):
        labels_of(source)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"image": np.zeros((2, 4, 4, 3), np.uint8)},
            "has no array 'label'; it has 'im",
        ),
        ({"image": np.zeros((2, 4, 4, 3)), "label": np.zeros(2, int)}, "must be uint8"),
        (
            {"image": np.zeros((2, 3, 4, 4), np.uint8), "label": np.zeros(2, int)},
            r"is \[2, 3, 4, 4\].*transpose",
        ),
        (
            {"image": np.zeros((2, 4, 4), np.uint8), "label": np.zeros(3, int)},
            r"labels must be integers \[2\]",
        ),
        (
            {"image": np.zeros((2, 4, 4), np.uint8), "label": np.zeros(2)},
            "'label' of .* is float64",
        ),
    ],
)
def test_npz_says_what_is_wrong_with_an_array(tmp_path, arrays, message):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        len(Npz(str(tmp_path / "set.npz")))


def test_npz_says_that_a_file_is_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.npz does not exist"):
        len(Npz(str(tmp_path / "gone.npz")))
    np.savez(tmp_path / "set.npz", image=np.zeros((2, 4, 4), np.uint8))
    data = (tmp_path / "set.npz").read_bytes()
    for name, content in (("half.npz", data[: len(data) // 2]), ("text.npz", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is damaged or not a \.npz"):
            len(Npz(str(tmp_path / name)))
    (tmp_path / "flip.npz").write_bytes(data.replace(bytes(32), b"\1" * 32, 1))
    with pytest.raises(ValueError, match=r"flip\.npz is damaged .*CRC"):
        len(Npz(str(tmp_path / "flip.npz"), label=None))


def test_synthetic_images_are_a_function_of_seed_and_index():
    one, again, other = Synthetic(seed=0), Synthetic(seed=0), Synthetic(seed=1)
    np.testing.assert_array_equal(one[17]["image"], again[17]["image"])
    assert not np.array_equal(one[17]["image"], other[17]["image"])
    assert not np.array_equal(one[17]["image"], one[27]["image"])


def test_synthetic_classes_can_be_told_apart_by_colour_and_direction():
    train, test = Synthetic(count=100), Synthetic(count=100, seed=1)

    def features(source: Synthetic) -> np.ndarray:
        images = np.stack([source[i]["image"] for i in range(100)]).astype(float)
        spectrum = np.abs(np.fft.fft2(images.mean(-1)))[:, :8].reshape(100, -1)
        colour = 30 * images.std((1, 2))
        spectrum[:, 0] = 0
        return np.concatenate([spectrum, colour], 1)

    distance = ((features(test)[:, None] - features(train)) ** 2).sum(-1)
    nearest = labels_of(train)[distance.argmin(1)]
    assert (nearest == labels_of(test)).mean() > 0.8
