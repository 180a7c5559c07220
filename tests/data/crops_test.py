"""Random crops: torchvision's boxes and pixels, drawn by seed, step and place alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jax_rcl.augment.resample import cut_boxes
from jax_rcl.config.nodes import build, node
from jax_rcl.core import Source
from jax_rcl.data.crops import RandomCrops, random_boxes, uniforms
from jax_rcl.data.folders import ImageFolder, Photograph
from jax_rcl.data.frames import Framed, Squares
from jax_rcl.data.records import labels_of, names_of
from jax_rcl.data.sources import Synthetic
from jax_rcl.data.stream import Order, eval_batches, load, train_stream
from jax_rcl.data.textures import WithTexture
from jax_rcl.data.wrappers import Channels, Subset

# Of torchvision 0.28, `RandomResizedCrop.get_params` 100,000 times: how often the box
# has a side below 224 pixels, how much of the photograph it has on average, and how
# often some of it is outside the central square.
TORCHVISION = {
    (375, 500, 0.08): (0.3312, 0.4339, 0.6255),
    (375, 500, 0.2): (0.1915, 0.4966, 0.6782),
    (500, 333, 0.08): (0.4475, 0.3892, 0.7014),
    (224, 224, 0.2): (0.9999, 0.5418, 0.0),
    (300, 1200, 0.08): (0.4053, 0.1923, 0.9500),
    (300, 1200, 0.2): (0.0, 0.2876, 0.9958),
    (1024, 768, 0.08): (0.0008, 0.4333, 0.6264),
}
DRAWS = 4000


@pytest.mark.parametrize("case", TORCHVISION)
def test_boxes_are_distributed_as_those_of_torchvision(case):
    height, width, least = case
    numbers = uniforms(0, 1, 0, 0, DRAWS)
    heights, widths = (np.full(DRAWS, side, np.int32) for side in (height, width))
    bounds = {"area": (least, 1.0), "aspect": (3 / 4, 4 / 3)}
    top, left, h, w = random_boxes(numbers, heights, widths, **bounds).T
    assert min(top.min(), left.min(), h.min() - 1, w.min() - 1) >= 0
    assert (top + h <= height).all() and (left + w <= width).all()
    side = min(height, width)
    above, before = (height - side) // 2, (width - side) // 2
    outside = (top < above) | (left < before)
    outside |= (top + h > above + side) | (left + w > before + side)
    enlarged, seen = np.minimum(h, w) < 224, h * w / (height * width)
    for found, expected in zip(
        (enlarged, seen, outside), TORCHVISION[case], strict=True
    ):
        # Four standard errors, and the rounding of what is stored.
        error = 4 * found.std() / DRAWS**0.5 + 2e-3
        assert found.mean() == pytest.approx(expected, abs=error)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((10, 1000), (0, 493, 10, 13)),  # a third wider than high
        ((1000, 10), (493, 0, 13, 10)),
        ((10, 10), (0, 0, 10, 10)),
    ],
)
def test_the_largest_central_box_is_taken_where_none_fits(shape, box):
    # All of the area at an aspect of 1.31, in an image that is narrower or wider.
    numbers = np.ones((1, 22)) - 2.0**-53
    numbers[:, 10:20] = 0.97
    height, width = (np.array([side], np.int32) for side in shape)
    found = random_boxes(numbers, height, width, area=(1.0, 1.0), aspect=(3 / 4, 4 / 3))
    assert tuple(found[0]) == box


def test_numbers_are_those_of_a_place_whatever_is_read_with_it():
    together = uniforms(3, 5, 1, 0, 7)
    assert together.shape == (7, 22) and (together >= 0).all() and (together < 1).all()
    for place in range(7):
        np.testing.assert_array_equal(uniforms(3, 5, 1, place, 1)[0], together[place])
    others = [uniforms(*each, 0, 7) for each in ((3, 5, 0), (3, 6, 1), (4, 5, 1))]
    assert all(not np.isin(other, together).any() for other in others)
    # The same for ever: a run that goes on under another version sees the same crops.
    assert together[0, :2].tolist() == [0.8297994263278288, 0.19125500532217288]


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


SHAPES = ((30, 40), (41, 30), (20, 60), (35, 35), (60, 21), (30, 30))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six photographs of different shapes in two classes."""
    root = tmp_path_factory.mktemp("photos")
    for i, shape in enumerate(SHAPES):
        write(root / "ab"[i % 2] / f"{i}.png", noise((*shape, 3), i))
    return root


@pytest.fixture(scope="module")
def photographs(folder):
    return ImageFolder(str(folder), None)


def test_they_are_a_source_like_the_one_inside(photographs):
    source = RandomCrops(photographs, 8)
    assert isinstance(source, Source) and source.class_names == ("a", "b")
    assert labels_of(source).tolist() == [0, 0, 0, 1, 1, 1]
    assert names_of(source) == names_of(photographs) and len(source) == 6
    assert source[2]["image"].shape == (2, 8, 8, 3)
    assert source[2]["image"].dtype == np.uint8
    config = node(RandomCrops, node(ImageFolder, photographs.folder, None), 8)
    assert build(config) == source


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_pixels_are_those_of_a_crop_and_a_resize_of_pil(photographs, kind):
    # What torchvision does with images of PIL; it agreed to the pixel when it was here.
    source = RandomCrops(photographs, 12, count=3, interpolation=kind)
    for index in range(6):
        image = Image.fromarray(np.asarray(photographs[index]["image"]))
        crops = source.draw_record(index, seed=1, step=2, place=3)["image"]
        for view, crop in enumerate(crops):
            sides = (np.array([s], np.int32) for s in (image.height, image.width))
            box = source.boxes(uniforms(1, 2, view, 3, 1), *sides)[0].tolist()
            top, left, height, width = box
            cut = image.crop((left, top, left + width, top + height))
            expected = cut.resize((12, 12), Image.Resampling[kind.upper()])
            np.testing.assert_array_equal(crop, np.asarray(expected))


def batches(source, start=0, **shares):
    order = Order(len(source), 4, seed=7)
    stream = train_stream(source, order, start_step=start, stop_step=6, **shares)
    found = list(stream)
    stream.close()
    return found


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        assert set(one) == set(other)
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_a_run_that_was_stopped_or_shared_sees_the_same_crops(photographs):
    source = RandomCrops(photographs, 8)
    whole = batches(source)
    for start in (1, 3):
        assert_same(whole[start:], batches(source, start, threads=2))
    halves = [batches(source, process_index=p, process_count=2) for p in (0, 1)]
    joined = [
        {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        for parts in zip(*halves, strict=True)
    ]
    assert_same(whole, joined)


def test_views_steps_places_and_seeds_have_crops_of_their_own(photographs):
    source = RandomCrops(photographs, 8)
    calls = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    drawn = [
        source.draw_record(0, seed=seed, step=step, place=place)["image"]
        for seed, step, place in calls
    ]
    assert len({crop.tobytes() for crops in drawn for crop in crops}) == 8


def test_gray_images_keep_their_channel():
    source = RandomCrops(Synthetic(4, 20, 1, 8), 8, count=1)
    assert source[0]["image"].shape == (1, 8, 8, 1)
    assert RandomCrops(Channels(source.source), 8)[0]["image"].shape == (2, 8, 8, 3)


def test_a_texture_is_cut_where_the_first_view_is(folder, tmp_path):
    for i, shape in enumerate(SHAPES):
        # As if each photograph were its own texture, but of another size.
        image = Image.fromarray(noise((*shape, 3), i)).resize((40, 40))
        write(tmp_path / "ab"[i % 2] / f"{i}.png", np.asarray(image))
    inside = WithTexture(ImageFolder(str(folder), None), str(tmp_path), 40)
    source = RandomCrops(inside, 8)
    record = source.draw_record(0, seed=1, step=2, place=3)
    assert record["texture"].shape == (8, 8, 3)
    numbers = uniforms(1, 2, 0, 3, 1)
    np.testing.assert_array_equal(
        record["texture"], source.cut(inside[0]["texture"], numbers)[0]
    )
    side = np.array([40], np.int32)
    of_texture = source.boxes(numbers, side, side)[0]
    of_photo = source.boxes(numbers, *(np.array([s], np.int32) for s in SHAPES[0]))[0]
    shares = [
        box[2] * box[3] / size for box, size in ((of_texture, 1600), (of_photo, 1200))
    ]
    assert shares[0] == pytest.approx(shares[1], abs=0.05)


# Decoding at a fraction of the size.


class Noted(Photograph):
    """A photograph that keeps in mind how small it was decoded."""

    shape = (4000, 5000, 3)

    def decode(self, reduce=1):
        self.reduce = reduce
        return Image.new("RGB", (5000 // reduce, 4000 // reduce))


@pytest.mark.parametrize(
    ("smallest", "factor"), [(447, 1), (448, 2), (895, 2), (896, 4), (1792, 8)]
)
def test_a_jpeg_is_decoded_small_where_twice_the_pixels_remain(
    photographs, smallest, factor, monkeypatch
):
    boxes = np.array([[0, 0, 4000, 5000], [3, 4, smallest + 7, smallest]], np.int32)
    monkeypatch.setattr(RandomCrops, "boxes", lambda *_: boxes)
    photograph = Noted("", "")
    RandomCrops(photographs, 112).cut(photograph, np.zeros((2, 22)))
    assert photograph.reduce == factor


def test_crops_of_a_jpeg_decoded_small_are_nearly_the_same(tmp_path):
    smooth = Image.fromarray(noise((40, 50, 3))).resize((1000, 800))
    write(tmp_path / "a" / "0.jpg", np.asarray(smooth), quality=95)
    source = RandomCrops(ImageFolder(str(tmp_path), None), 64, area=(0.5, 1.0))
    numbers = np.concatenate([uniforms(0, 0, view, 0, 1) for view in range(2)])
    photograph = source.source[0]["image"]
    assert photograph.decode(4).size == (250, 200)
    small = source.cut(photograph, numbers)
    exact = source.cut(np.asarray(photograph), numbers)
    assert (small != exact).any()
    difference = np.abs(small.astype(float) - exact)
    assert difference.mean() < 1 and difference.max() < 16


def test_a_photograph_is_read_when_its_pixels_are_asked_for(folder, tmp_path):
    photograph = Photograph(folder / "a" / "0.png", "Look again.")
    assert photograph.shape == (30, 40, 3) and np.shape(photograph) == (30, 40, 3)
    np.testing.assert_array_equal(np.asarray(photograph), noise((30, 40, 3)))
    missing = Photograph(tmp_path / "gone.png", "Look again.")
    with pytest.raises(
        FileNotFoundError, match=r"gone\.png does not exist. Look again"
    ):
        _ = missing.shape
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad\.png does not decode .* Look again"):
        _ = Photograph(tmp_path / "bad.png", "Look again.").shape


# Photographs in frames of one shape, and as squares.


def test_a_frame_has_the_photograph_and_its_extent(photographs):
    framed = Framed(photographs, 41)
    rows = load(framed)
    assert rows["image"].shape == (6, 41, 41, 3) and rows["extent"].dtype == np.int32
    for index, record in enumerate(map(photographs.__getitem__, range(6))):
        height, width = rows["extent"][index]
        pixels = np.asarray(record["image"])
        longer = max(pixels.shape)
        if longer > 41:  # 20 x 60 and 60 x 21
            small = (round(s * 41 / 60) for s in pixels.shape[1::-1])
            image = Image.fromarray(pixels)
            pixels = np.asarray(image.resize(tuple(small), Image.Resampling.BILINEAR))
        assert (height, width) == pixels.shape[:2]
        np.testing.assert_array_equal(rows["image"][index, :height, :width], pixels)
        assert not rows["image"][index, height:].any()
        assert not rows["image"][index, :, width:].any()
    assert rows["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert names_of(framed) == names_of(photographs)


def test_crops_of_what_fits_its_frame_are_those_of_the_photograph(photographs):
    framed = RandomCrops(Framed(photographs, 60), 8)
    assert_same(batches(framed), batches(RandomCrops(photographs, 8)))


@pytest.mark.parametrize("kind", ["as torchvision", "bicubic"])
def test_squares_are_those_of_the_folder_itself(photographs, kind):
    squares = ImageFolder(photographs.folder, 16, resize=kind)
    for source in (photographs, Framed(photographs, 60)):
        made = Squares(source, 16, kind)
        assert_same([load(made)], [load(squares)])
    gray = Squares(Synthetic(4, 20, 1, 8), 16)
    assert gray[0]["image"].shape == (16, 16, 1)


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_the_device_cuts_as_the_host_does_to_one_level(photographs, kind):
    source = RandomCrops(Framed(photographs, 60), 12, interpolation=kind)
    assert (
        source.laid_out == source.source
        and RandomCrops(photographs, 8).laid_out is None
    )
    rows, order = load(source.source), np.array([5, 2, 0, 3, 1, 4])
    boxes = source.step_boxes({"image": rows["extent"][order]}, 7, 4, 2)["image"]
    fields = {"size": 12, "interpolation": kind}
    cut = jax.jit(functools.partial(cut_boxes, **fields))(
        jnp.asarray(rows["image"][order]), jnp.asarray(boxes)
    )
    for place, index in enumerate(order.tolist(), start=2):
        expected = source.draw_record(index, seed=7, step=4, place=place)["image"]
        difference = np.abs(np.asarray(cut[place - 2], int) - expected.astype(int))
        assert difference.max() <= 1 and difference.mean() < 0.1


# What is refused.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"area": (0.0, 1.0)}, r"RandomCrops\.area .* must be .*fractions"),
        ({"area": (0.5, 0.2)}, r"RandomCrops\.area"),
        ({"aspect": (0.0, 1.0)}, r"RandomCrops\.aspect"),
        ({"count": 0}, r"RandomCrops\.count 0 must be at least 1"),
    ],
)
def test_settings_that_no_crop_has_are_refused(photographs, fields, message):
    with pytest.raises(ValueError, match=message):
        RandomCrops(photographs, 8, **fields)


def test_they_go_around_everything_else(photographs):
    crops = RandomCrops(photographs, 8)
    message = r"RandomCrops inside Subset .* same record at every step; put RandomCrops"
    with pytest.raises(ValueError, match=message):
        train_stream(Subset(crops, 0.5), Order(3, 2), start_step=0, stop_step=1)
    with pytest.raises(ValueError, match="RandomCrops inside RandomCrops"):
        RandomCrops(crops, 8)
    assert RandomCrops(Subset(photographs, 0.5), 8)[0]["image"].shape == (2, 8, 8, 3)


def test_what_is_drawn_anew_cannot_be_laid_out(photographs):
    with pytest.raises(ValueError, match=r"RandomCrops are drawn anew .*`source`"):
        load(RandomCrops(photographs, 8))


def test_photographs_of_different_shapes_are_no_batch(photographs):
    with pytest.raises(
        ValueError, match=r"\[20, 60, 3\].*RandomCrops, Squares or Framed around"
    ):
        list(eval_batches(photographs, 4))
