"""The encoder of a run takes images from where they are, and is compiled once."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.augment.distortions.pixelwise import GaussianNoise
from jax_rcl.config.nodes import node
from jax_rcl.data.crops import RandomCrops
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.sources import Synthetic
from jax_rcl.data.wrappers import Subset
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.networks.vit import ViT
from jax_rcl.train.evaluation import describe_source, make_encoder, without
from jax_rcl.train.run import Run
from tests.train.shared import TINY, mesh


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Makes the encoder of an untrained run on so many devices."""

    def make(devices):
        config = configs.load(f"{TINY}:count=32")
        with config.unlocked():
            vit = node(ViT, patch=4, width=8, depth=1, heads=2, pool="mean")
            config.objective.encoder = vit
        run = Run.prepare(config, tmp_path_factory.mktemp("run"), mesh(devices))
        same = jax.tree.map(
            lambda x: np.full(x.shape, 0.1, x.dtype), run.plan.variables
        )
        return make_encoder(run)(parallel.replicate(same, run.mesh))

    return make


@pytest.fixture
def images():
    """Twelve images, as many as are no multiple of eight devices."""
    return np.random.default_rng(0).random((12, 8, 8, 3), np.float32)


def placed(images):
    """The same images in the host's memory, on one device, and spread over all."""
    return images, jnp.asarray(images), parallel.spread(images, parallel.make_mesh())


@pytest.mark.parametrize("devices", [1, 8])
def test_where_images_are_makes_no_difference(encoder, images, devices):
    encode = encoder(devices)
    whole, single, split = (encode(given)["features"] for given in placed(images))
    assert whole.shape[0] == single.shape[0] == 12
    np.testing.assert_array_equal(whole, single)
    np.testing.assert_array_equal(whole, split[:12])


def test_images_that_are_no_floats_are_refused(encoder, images):
    with pytest.raises(ValueError, match=r"in \[0, 1\], and these are uint8; divide"):
        encoder(1)((255 * images).astype(np.uint8))


@pytest.mark.parametrize("devices", [1, 8])
def test_images_on_a_device_do_not_come_to_the_host(images, devices, monkeypatch):
    some = mesh(devices)
    monkeypatch.setattr(parallel, "spread", None)
    for given in (jnp.asarray(images), jax.device_put(images, jax.devices()[-1])):
        rows = parallel.on_devices(given, some)
        assert len(rows) == -(-12 // devices) * devices
        assert rows.sharding.device_set == {*jax.devices()[:devices]}
        np.testing.assert_array_equal(rows[:12], images)


def test_a_sweep_compiles_its_distortion_and_the_encoder_once(encoder, caplog):
    train, test = (
        Synthetic(classes=4, size=8, count=count, seed=seed)
        for count, seed in ((32, 0), (20, 1))
    )
    probe = LinearProbe(train, test, strengths=(0.1,), mapped=0, batch_size=16)
    encode = encoder(8)
    sweep = LevelSweep(probe, GaussianNoise((0.1, 0.3)), (0.1, 0.2, 0.3), repeats=2)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        probe.run(encode)
        found = sweep.run(encode)
    messages = [x.getMessage() for x in caplog.records]
    programs = [x.split()[1] for x in messages if x.startswith("Compiling ")]
    assert programs.count("jit(_distorted)") == 1
    assert programs.count("jit(encode_layers)") == 1  # the encoder's
    assert len(found) == 1 + 3 * 3


def test_a_picture_that_fails_is_left_out_and_said(caplog):
    with without("the confusion of evaluator 'probe'"):
        raise TypeError("a name\nthat is no text")
    assert "the confusion of evaluator 'probe' could not be drawn" in caplog.text
    assert "TypeError: a name that is no text" in caplog.text


def test_the_page_says_what_is_read_whatever_is_around_it(tmp_path):
    for name in "abcd":
        (tmp_path / name).mkdir()
        for number in range(3):
            image = Image.new("RGB", (8, 6))
            image.save(tmp_path / name / f"{number}.png")
    folder = ImageFolder(str(tmp_path), size=None, classes=tuple("abcd"))
    told = describe_source(RandomCrops(Subset(folder, 0.5), 4))
    assert told == f"8 of ImageFolder(folder={str(tmp_path)!r}, size=None)"
    assert describe_source(Synthetic(count=5)) == "5 of Synthetic(count=5)"
