"""Priors beside records: what a file must be, that labels are refused, a control."""

import dataclasses
import pickle

import numpy as np
import pytest
from PIL import Image

from jax_rcl.config.nodes import build, node
from jax_rcl.core import Source
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.prior import WithKeywords, WithPrior, WithRandomBits
from jax_rcl.data.records import group_names_of, labels_of, names_of
from jax_rcl.data.sources import Digits, Synthetic
from jax_rcl.data.stream import load
from jax_rcl.data.textures import WithTexture
from jax_rcl.data.wrappers import Channels, Relabel, Split, Subset

SOURCE = Synthetic(classes=3, size=2, count=30)
ROWS = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Objects:
    """Records without labels but with words, groups and names."""

    keywords: tuple[tuple[str, ...], ...] = (
        ("face", "grinning"),
        ("face", "smile", "face"),
        ("flag", "france"),
        ("flag", "smile"),
        ("tree",),
    )
    class_names: tuple[str, ...] = ()

    group_names = ("even", "odd")
    all_groups = np.array([0, 1, 0, 1, 0], np.int32)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict:
        image = np.full((2, 2, 3), index, np.uint8)
        return {"image": image, "group": np.int32(index % 2)}


@dataclasses.dataclass(frozen=True)
class Rays:
    """Records with two targets, some of them missing, and no labels."""

    count: int = 24
    class_names: tuple[str, ...] = ()

    target_names = ("fluid", "fracture")

    @property
    def all_targets(self) -> np.ndarray:
        targets = np.arange(self.count)[:, None] // [1, 2] % 2 * np.float32(1)
        targets[::5, 0] = np.nan
        return targets.astype(np.float32)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        image = np.full((2, 2, 1), index, np.uint8)
        return {"image": image, "targets": self.all_targets[index]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "prior.npz"


@pytest.fixture
def folder(tmp_path):
    """Twelve images in two classes; the gray value of one is its number."""
    for i in range(12):
        file = tmp_path / "pets" / "ab"[i // 6] / f"{i % 6}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 3, 3), i, np.uint8)).save(file)
    return tmp_path / "pets"


def saved(path, prior=ROWS, **arrays):
    np.savez(path, prior=prior, **arrays)
    return str(path)


def refusal(source):
    with pytest.raises(ValueError) as caught:
        source[0]
    return str(caught.value)


# Rows of a file.


def test_every_record_gains_its_row(path):
    source = WithPrior(SOURCE, saved(path, labels=labels_of(SOURCE)))
    assert isinstance(source, Source) and len(source) == 30
    rows = load(source)
    assert rows.keys() == {"image", "label", "prior"}
    assert rows["prior"].dtype == np.float32
    np.testing.assert_array_equal(rows["prior"], ROWS)
    np.testing.assert_array_equal(rows["image"], load(SOURCE)["image"])
    np.testing.assert_array_equal(source.priors, ROWS)


def test_a_file_that_is_not_compressed_is_mapped_and_not_loaded(path, tmp_path):
    with path.open("wb") as file:
        np.savez(file, labels=labels_of(SOURCE), other=np.zeros(7), prior=ROWS)
    np.save(tmp_path / "prior.npy", ROWS)
    for file in (path, tmp_path / "prior.npy"):
        source = WithPrior(SOURCE, str(file))
        assert isinstance(source.priors, np.memmap)
        np.testing.assert_array_equal(source.priors, ROWS)
        assert type(source[0]["prior"]) is np.ndarray


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:, None],
        ROWS.astype(np.float64),
        np.asfortranarray(ROWS),
        ROWS.astype(">f4"),
    ],
)
def test_rows_may_be_stored_in_other_ways(path, rows):
    np.testing.assert_array_equal(WithPrior(SOURCE, saved(path, rows)).priors, ROWS)
    np.savez_compressed(path, prior=rows)
    np.testing.assert_array_equal(WithPrior(SOURCE, str(path)).priors, ROWS)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float16])
def test_attributes_are_made_floats(path, kind):
    bits = (ROWS > 0).astype(kind)
    found = WithPrior(SOURCE, saved(path, bits)).priors
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ROWS > 0)


def test_shares_of_the_records_keep_their_rows(path):
    whole = WithPrior(SOURCE, saved(path))
    for share in (Subset(whole, 0.5), Split(whole, "val", 0.3)):
        np.testing.assert_array_equal(load(share)["prior"], ROWS[share.indices])
        np.testing.assert_array_equal(share.priors, ROWS[share.indices])
    coarse = Relabel(whole, (0, 0, 1), ("few", "many"))
    np.testing.assert_array_equal(load(coarse)["prior"], ROWS)
    np.testing.assert_array_equal(coarse.priors, ROWS)


@pytest.mark.parametrize(
    "wrapper",
    [(WithPrior, "nowhere.npz"), (WithKeywords, 3), (WithRandomBits, 8, 0.25, 7)],
)
def test_sources_with_priors_are_their_settings(wrapper):
    cls, *settings = wrapper
    one, other = cls(SOURCE, *settings), cls(SOURCE, *settings)
    assert one == other and hash(one) == hash(other)
    assert one != cls(Synthetic(seed=1), *settings)
    assert build(node(cls, node(Synthetic), *settings)) == cls(Synthetic(), *settings)


def test_another_process_gets_the_settings_alone():
    source = WithRandomBits(SOURCE, 1000)
    source[0]
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source and len(pickle.dumps(source)) < 1000
    np.testing.assert_array_equal(copy.priors, source.priors)


def test_what_the_source_says_is_passed_on(folder, path):
    objects = WithRandomBits(Objects(), 3)
    assert group_names_of(objects) == ("even", "odd")
    assert objects.keywords == Objects().keywords and objects.class_names == ()
    assert objects.all_groups.tolist() == [0, 1, 0, 1, 0]
    rays = WithRandomBits(Channels(Rays()), 3)
    assert rays.target_names == ("fluid", "fracture")
    np.testing.assert_array_equal(rays.all_targets, Rays().all_targets)
    files = WithRandomBits(ImageFolder(str(folder), 3), 3)
    assert files.names == ImageFolder(str(folder), 3).names
    assert files.class_names == ("a", "b") and labels_of(files)[6] == 1
    # Textures belong to files, so that they go inside.
    with pytest.raises(ValueError, match="WithTexture needs a source of files"):
        WithTexture(files, str(folder), 3)
    textured = WithRandomBits(WithTexture(files.source, str(folder), 3), 3)
    assert textured[0].keys() == {"image", "label", "texture", "prior"}
    assert names_of(textured) == files.names


# What is wrong with a file.


def test_a_missing_file_says_how_to_make_one(path):
    with pytest.raises(FileNotFoundError, match=r"prior\.npz; .*prepare features"):
        WithPrior(SOURCE, str(path))[0]


def test_a_file_without_the_array_lists_what_it_has(path):
    np.savez(path, features=ROWS, names=np.zeros(3))
    message = refusal(WithPrior(SOURCE, str(path)))
    assert "no array 'prior'; it has features.npy, names.npy" in message


@pytest.mark.parametrize("content", [b"no arrays", b"PK\x03\x04 cut short", b""])
def test_a_damaged_file_is_named(path, content):
    path.write_bytes(content)
    assert "prior.npz does not read as .npz" in refusal(WithPrior(SOURCE, str(path)))


def test_a_file_that_was_cut_short_is_named(path):
    saved(path)
    path.write_bytes(path.read_bytes()[:-200])
    assert "does not read as .npz" in refusal(WithPrior(SOURCE, str(path)))


def test_python_objects_are_not_read(path):
    np.savez(path, prior=np.array([None] * 30))
    message = refusal(WithPrior(SOURCE, str(path)))
    assert "does not read" in message and "Python objects" in message
    np.savez(path, prior=ROWS, names=np.array(["a"] * 30, object))
    assert "names as numpy.array(names, dtype=str)" in refusal(
        WithPrior(SOURCE, str(path))
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:, 0], r"'prior' of \S+ is float32 \[30\]; .* \[m, p\].*rows\[:, None\]"),
        (ROWS[:, :0], r"float32 \[30, 0\]"),
        (np.zeros((30, 2, 3), np.float32), r"float32 \[30, 2, 3\]"),
        (np.array([["x"]] * 30), r"<U1 \[30, 1\]; it must be numbers"),
    ],
)
def test_a_prior_is_one_vector_for_each_record(path, rows, message):
    with pytest.raises(ValueError, match=message):
        WithPrior(SOURCE, saved(path, rows))[0]


@pytest.mark.parametrize("count", [0, 29, 31])
def test_another_length_is_refused_with_what_to_wrap(path, count):
    rows = np.resize(ROWS, (count, 5))
    message = refusal(WithPrior(SOURCE, saved(path, rows)))
    assert f"has {count} rows of prior for 30 records of Synthetic(" in message
    assert "Subset(WithPrior(source, file), 0.1)" in message
    assert "another length" not in message


def test_priors_of_a_whole_source_do_not_fit_a_share(path):
    share = Subset(SOURCE, 0.5)
    message = refusal(WithPrior(share, saved(path)))
    assert "30 rows of prior for 15 records of Subset(" in message


@pytest.mark.parametrize(
    ("value", "first"), [(np.nan, 3), (np.inf, 3), (-np.inf, 3), (1e300, 3)]
)
def test_numbers_that_are_not_finite_are_counted(path, value, first):
    rows = ROWS.astype(np.float64)
    rows[[first, 20], [1, 2]] = value
    message = refusal(WithPrior(SOURCE, saved(path, rows)))
    assert f"2 of 30 rows of prior in {path} have NaN or inf, first row 3." in message


def test_the_first_row_that_is_not_finite_is_named_where_there_are_names(folder, path):
    rows = np.zeros((12, 1), np.float32)
    rows[7] = np.nan
    message = refusal(WithPrior(ImageFolder(str(folder), 3), saved(path, rows)))
    assert "1 of 12 rows" in message and "first row 7 (b/1.png)" in message


def test_labels_in_another_order_show_where(path):
    labels = labels_of(SOURCE)
    labels[[4, 5]] = labels[[5, 4]]
    message = refusal(WithPrior(SOURCE, saved(path, labels=labels)))
    assert "2 of 30 labels in" in message
    assert "first record 4: 2 in the file and 1 in the source" in message
    assert "jax-rcl prepare join" in message


@pytest.mark.parametrize(
    "labels", [np.zeros(29, int), np.zeros((30, 3)), np.full(30, "a")]
)
def test_labels_of_another_form_are_refused(path, labels):
    message = refusal(WithPrior(SOURCE, saved(path, labels=labels)))
    assert "'labels' of" in message and "write the same, or no labels" in message


def test_labels_may_be_a_column_or_floats(path):
    labels = labels_of(SOURCE).astype(np.float64)[:, None]
    np.testing.assert_array_equal(
        WithPrior(SOURCE, saved(path, labels=labels)).priors, ROWS
    )


def test_targets_are_compared_and_missing_ones_are_equal(path):
    source, rows = Rays(), ROWS[:24]
    targets = source.all_targets
    WithPrior(source, saved(path, rows, labels=targets))[0]
    WithPrior(Channels(source), saved(path, rows, labels=targets))[0]
    targets[5, 0] = 1
    message = refusal(WithPrior(source, saved(path, rows, labels=targets)))
    assert "1 of 24 labels" in message
    assert (
        "first record 5: [1.0, 0.0] in the file and [nan, 0.0] in the source" in message
    )


def test_labels_of_a_source_without_any_are_not_compared(path):
    rows = ROWS[:5]
    found = WithPrior(Objects(), saved(path, rows, labels=np.arange(5)))[0]
    np.testing.assert_array_equal(found["prior"], rows[0])


@pytest.mark.parametrize("kind", ["U", "S"])
def test_names_in_another_order_show_the_first_and_the_command(folder, path, kind):
    source, rows = ImageFolder(str(folder), 3), ROWS[:12]
    names = np.array(source.names, kind)
    WithPrior(source, saved(path, rows, names=names))[0]
    names[[2, 9]] = names[[9, 2]]
    message = refusal(WithPrior(source, saved(path, rows, names=names)))
    assert "names in" in message and "are not those of ImageFolder(" in message
    assert "record 2, 'b/3.png' in the file and 'a/2.png' in the source" in message
    assert f"jax-rcl prepare join --features={path}" in message
    names[0] = "c"
    message = refusal(WithPrior(source, saved(path, rows, names=names)))
    assert "record 0, 'c' in the file" in message


@pytest.mark.parametrize("names", [np.arange(12), np.full((12, 1), "a")])
def test_names_are_texts(folder, path, names):
    message = refusal(
        WithPrior(ImageFolder(str(folder), 3), saved(path, ROWS[:12], names=names))
    )
    assert "'names' of" in message and "must be texts [m]" in message


def test_a_shorter_list_of_names_is_refused(folder, path):
    source = ImageFolder(str(folder), 3)
    names = np.array(source.names[:11])
    message = refusal(WithPrior(source, saved(path, ROWS[:12], names=names)))
    assert "record 11, 'missing' in the file and 'b/5.png'" in message


def test_names_of_a_source_without_any_are_not_compared(path):
    found = WithPrior(SOURCE, saved(path, names=np.full(30, "x")))[0]
    np.testing.assert_array_equal(found["prior"], ROWS[0])


def test_everything_is_checked_once(path, monkeypatch):
    source = WithPrior(SOURCE, saved(path))
    source[0]
    path.unlink()
    assert source[29]["prior"].shape == (5,)


# Labels are not a prior.

LABELS = labels_of(SOURCE)


@pytest.mark.parametrize(
    "rows",
    [
        LABELS[:, None],
        np.eye(3)[LABELS],
        np.array([7.5, -1, 3])[LABELS][:, None],
        ROWS[:3][LABELS],
        np.array([[0.0, 1], [-0.0, 2], [0, 3]])[LABELS],
        np.eye(3)[LABELS] + 1e-6 * ROWS[:, :1],  # with a little noise
        np.concatenate([ROWS, 100 * np.eye(3)[LABELS]], axis=1),  # beside others
        np.arange(30)[:, None] % 6,  # finer labels
    ],
)
def test_labels_in_any_code_are_refused_unless_they_are_meant(path, rows):
    message = refusal(WithPrior(SOURCE, saved(path, rows)))
    assert f"the prior of {path} is the labels of Synthetic(" in message
    assert "labels='meant'" in message
    found = WithPrior(SOURCE, str(path), labels="meant").priors
    np.testing.assert_array_equal(found, rows.astype(np.float32))


@pytest.mark.parametrize(
    "rows",
    [
        np.minimum(LABELS, 1)[:, None],  # coarser than the labels
        np.concatenate([ROWS, np.eye(3)[LABELS][:, :1]], axis=1),  # tells one class
        np.eye(3)[np.where(np.arange(30) == 7, 0, LABELS)],  # one record is another
        np.array([[0.0], [-0.0], [1]])[LABELS],  # 0 and -0 are the same
        np.roll(LABELS, 1)[::-1, None] * (np.arange(30) > 3)[:, None],
    ],
)
def test_what_tells_more_or_less_than_the_label_is_a_prior(path, rows):
    found = WithPrior(SOURCE, saved(path, rows))[0]
    np.testing.assert_array_equal(found["prior"], rows[0])


def test_where_no_two_records_share_a_label_or_all_do_nothing_can_be_told(path):
    distinct = Synthetic(classes=4, size=2, count=4)
    assert len(WithPrior(distinct, saved(path, ROWS[:4]))[0]["prior"]) == ROWS.shape[1]
    alone = Synthetic(classes=1, size=2, count=4)
    assert len(WithPrior(alone, saved(path, np.ones((4, 2))))[0]["prior"]) == 2


@pytest.mark.parametrize(
    "code",
    [
        lambda targets: np.nan_to_num(targets),
        lambda targets: np.nan_to_num(targets, nan=0.5),
        lambda targets: 3 * np.nan_to_num(targets, nan=7) @ [[1.0, 5], [10, 2]],
    ],
)
def test_targets_in_any_code_are_refused_unless_they_are_meant(path, code):
    rows = code(Rays().all_targets)
    message = refusal(WithPrior(Rays(), saved(path, rows)))
    assert "is the labels of Rays(" in message
    WithPrior(Rays(), str(path), labels="meant")[0]


# Words.


def test_words_of_enough_records_are_bits():
    source = WithKeywords(Objects())
    assert source.words == ("face", "flag", "smile")
    assert source.priors.dtype == np.float32
    assert source.priors.tolist() == [
        [1, 0, 0],
        [1, 0, 1],
        [0, 1, 0],
        [0, 1, 1],
        [0, 0, 0],
    ]
    assert source[3]["prior"].tolist() == [0, 1, 1] and source[4]["prior"].sum() == 0
    every = WithKeywords(Objects(), least=1)
    assert every.words == ("face", "flag", "france", "grinning", "smile", "tree")
    share = Split(source, "train", 0.4)
    np.testing.assert_array_equal(share.priors, source.priors[share.indices])
    assert share.keywords == tuple(Objects().keywords[i] for i in share.indices)


def test_sources_without_words_and_words_too_rare_are_refused():
    for source in (SOURCE, Subset(SOURCE, 0.5)):
        message = refusal(WithKeywords(source))
        assert "needs a source with `keywords`, such as Emoji" in message
    message = refusal(WithKeywords(Objects(), least=3))
    assert "least is 3, but no word has more than 2 of the 5 records" in message
    assert "write 2 or less" in message


# Random bits.


def test_random_bits_never_change():
    # Written down in November 2026.
    found = WithRandomBits(SOURCE, bits=12, seed=3).priors
    assert found.dtype == np.float32 and found.shape == (30, 12)
    rows = ["".join(str(int(bit)) for bit in row) for row in found[:3]]
    assert rows == ["110010000011", "011110111110", "010110000001"]


def test_bits_of_a_record_do_not_depend_on_how_many_follow():
    few, many = (Synthetic(size=2, count=count) for count in (10, 5000))
    first, second = (WithRandomBits(source, 7).priors for source in (few, many))
    np.testing.assert_array_equal(first, second[:10])
    assert (WithRandomBits(few, 7, seed=1).priors != first).any()


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_as_many_bits_are_one_as_asked_for(share):
    bits = WithRandomBits(Synthetic(size=2, count=5000), 64, share).priors
    assert set(np.unique(bits)) == {0.0, 1.0}
    # Four standard deviations.
    assert abs(bits.mean() - share) < 4 * np.sqrt(share * (1 - share) / bits.size)


def test_random_bits_do_not_depend_on_labels():
    source = Digits()
    labels, bits = labels_of(source), WithRandomBits(source).priors
    for order in (labels, np.sort(labels)):
        observed = np.stack([bits[order == k].sum(axis=0) for k in range(10)])
        size = np.bincount(order)[:, None]
        expected = size * bits.mean(axis=0)
        spread = expected * (1 - bits.mean(axis=0))
        total = ((observed - expected) ** 2 / spread).sum()
        # Chi-square of 576 degrees of freedom: above 686 once in a thousand seeds.
        assert 470 < total < 686
