"""DeepDecoder: hidden pixels come back, and the fit is that of the release."""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.restoration import deep_decoder
from jax_rcl.restoration.deep_decoder import DeepDecoder

TINY = DeepDecoder(steps=6, width=8, doublings=2, batch_size=2)


@functools.cache
def smooth(count=3, size=16):
    """Images of slow waves, all different, and which quarter of the pixels is known."""
    y, x = np.mgrid[:size, :size] / size
    waves = [
        0.5 + 0.4 * np.sin(2 * x * (1 + channel) + 3 * y + place)
        for place in range(count)
        for channel in range(3)
    ]
    clean = np.reshape(waves, (count, 3, size, size)).transpose(0, 2, 3, 1)
    known = np.random.RandomState(0).rand(count, size, size, 1) < 0.25
    return clean.astype(np.float32), known


def masked(count=3):
    clean, known = smooth(count)
    return clean * known, known


def hidden_error(images):
    """Mean squared error at the pixels that are masked."""
    clean, known = smooth(len(images))
    return float(np.square(images - clean)[~known[..., 0]].mean())


@functools.partial(jax.jit, static_argnums=0)
def fitted(decoder, image, known):
    return decoder.fit(image, known)


@functools.partial(jax.jit, static_argnums=0)
def started(decoder):
    return decoder.start((16, 16, 3))


def one():
    """The first image and its mask, on the device."""
    images, known = masked()
    return jnp.asarray(images[0]), jnp.asarray(known[0])


def test_hidden_pixels_come_back():
    image, known = one()
    decoder = DeepDecoder(steps=150, width=16, doublings=3)
    made, losses = fitted(decoder, image, known)
    before, after = (hidden_error(np.asarray(x)[None]) for x in (image, made))
    assert after < 0.03 * before
    assert losses[-1] < 0.1 * losses[0]


def torch_fit(torch, decoder, image, known):
    """The fit in PyTorch from the same start and noise: image, losses, steps kept."""
    params, z = jax.tree.map(np.asarray, started(decoder))

    def layers():
        for stage in (1, 2, 3):
            conv = torch.nn.Conv2d(8, 8, 1, bias=False)
            kernel = params[f"stage{stage}_conv"]["kernel"]
            conv.weight.data = torch.tensor(kernel.T[..., None, None])
            yield conv
            if stage < 3:
                yield torch.nn.Upsample(scale_factor=2, mode="bilinear")
            yield torch.nn.ReLU()
            yield torch.nn.BatchNorm2d(8)
        last = torch.nn.Conv2d(8, 3, 1, bias=False)
        last.weight.data = torch.tensor(params["image"]["kernel"].T[..., None, None])
        yield last
        yield torch.nn.Sigmoid()

    def first(x):
        return torch.tensor(np.asarray(x, np.float32)).permute(2, 0, 1)[None]

    network = torch.nn.Sequential(*layers())
    adam = torch.optim.Adam(network.parameters(), lr=decoder.learning_rate)
    target, mask, losses, kept, steps = first(image), first(known), [], None, []
    for step in range(decoder.steps):
        adam.zero_grad()
        loss = mask * (network(first(decoder.input_at(jnp.asarray(z), step))) - target)
        loss = loss.square().mean()
        loss.backward()
        adam.step()
        losses.append(loss.item())
        if not steps or losses[steps[-1]] > 1.005 * losses[-1]:
            kept = copy.deepcopy(network)
            steps.append(step)
    made = kept(first(z))[0].permute(1, 2, 0).detach().numpy()
    return made, np.asarray(losses), steps


JUMPING = DeepDecoder(steps=12, learning_rate=0.1, width=8, doublings=2)
"""Its last networks are not kept: the loss does not fall, or not clearly."""


def test_the_fit_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    found, values = fitted(JUMPING, *one())
    image, losses, steps = torch_fit(torch, JUMPING, *one())
    assert 1 < len(steps) and steps[-1] < 11
    np.testing.assert_allclose(values, losses, rtol=1e-3)
    np.testing.assert_allclose(found, image, atol=2e-3)


def test_the_network_after_the_last_clear_improvement_is_kept():
    found, losses = fitted(JUMPING, *one())
    best, last = np.inf, -1
    for step, loss in enumerate(np.asarray(losses)):
        if best > 1.005 * loss:
            best, last = loss, step
    assert 0 < last < 11
    shorter = dataclasses.replace(JUMPING, steps=last + 1)
    expected, _ = fitted(shorter, *one())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_loss_is_the_mean_over_all_entries_of_the_known_differences():
    image, known = one()
    params, z = started(JUMPING)
    apply = jax.jit(JUMPING.network(image.shape).apply)
    made = apply({"params": params}, JUMPING.input_at(z, 0))
    expected = np.where(known, np.square(made - image), 0).sum() / (16 * 16 * 3)
    _, losses = fitted(JUMPING, image, known)
    np.testing.assert_allclose(losses[0], expected, rtol=1e-5)


def test_images_fitted_together_and_alone_are_the_same_by_one_program():
    images, known = masked()
    before = deep_decoder._advance._cache_size()
    together = TINY(images, known)
    alone = [TINY(images[i : i + 1], known[i : i + 1])[0] for i in range(3)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    backwards = TINY(images[::-1], known[::-1])
    np.testing.assert_allclose(together, backwards[::-1], atol=1e-6)
    assert deep_decoder._advance._cache_size() == before + 1
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_one_is_told_how_far_it_is_whose_steps_are_the_same(monkeypatch):
    images, known = masked()
    expected, told = TINY(images, known), []
    before = deep_decoder._advance._cache_size()
    monkeypatch.setattr(deep_decoder, "SPAN", 4)
    np.testing.assert_array_equal(TINY(images, known, told.append), expected)
    np.testing.assert_allclose(told, [4 / 3, 2 / 3, 2 / 3, 1 / 3])
    assert deep_decoder._advance._cache_size() == before
    _, losses = fitted(TINY, *one())
    assert len(losses) == 6


def test_the_size_of_the_batch_changes_nothing():
    images, known = masked()
    other = dataclasses.replace(TINY, batch_size=9)
    np.testing.assert_allclose(other(images, known), TINY(images, known), atol=1e-4)


def test_the_seed_changes_the_network_its_input_and_the_noise():
    other = dataclasses.replace(TINY, seed=1)
    (params, z), (others, x) = started(TINY), started(other)
    kernels = [tree["stage1_conv"]["kernel"] for tree in (params, others)]
    assert jnp.abs(kernels[0] - kernels[1]).max() > 0.01
    assert jnp.abs(z - x).max() > 0.01
    assert jnp.abs(other.input_at(z, 0) - TINY.input_at(z, 0)).max() > 0.001


def test_what_hidden_pixels_hold_does_not_matter():
    images, known = masked()
    others = np.where(known, images, np.float32(0.7))
    np.testing.assert_allclose(TINY(others, known), TINY(images, known), atol=1e-6)


def test_known_pixels_are_kept_if_that_is_asked_for():
    images, known = masked()
    kept = dataclasses.replace(TINY, known_pixels="kept")(images, known)
    fit = TINY(images, known)
    mask = known[..., 0]
    np.testing.assert_array_equal(kept[mask], images[mask])
    np.testing.assert_allclose(kept[~mask], fit[~mask], atol=1e-6)
    assert np.abs(fit[mask] - images[mask]).min() > 0


def test_noise_falls_before_the_first_step_and_every_500():
    decoder = DeepDecoder()
    for step, expected in ((0, 0.0035), (499, 0.0035), (500, 0.00245), (999, 0.00245)):
        np.testing.assert_allclose(decoder.noise_at(step), expected, rtol=1e-5)
    np.testing.assert_allclose(decoder.noise_at(4999), 0.005 * 0.7**10, rtol=1e-5)


def test_the_input_is_uniform_and_its_noise_normal_and_new_in_every_step():
    decoder = DeepDecoder()
    z = jax.jit(lambda: decoder.start((224, 224, 3))[1])()
    assert z.shape == (7, 7, 256)
    assert 0 <= z.min() < 0.001 and 0.099 < z.max() < 0.1
    noise = [(decoder.input_at(z, step) - z) / 0.0035 for step in (0, 1)]
    for x in noise:
        assert abs(x.mean()) < 0.03 and abs(x.std() - 1) < 0.03
    assert abs((noise[0] * noise[1]).mean()) < 0.03


@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 30, 2)])
def test_images_keep_their_shape(shape):
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    known = jax.ShapeDtypeStruct((*shape[:2], 1), jnp.bool_)
    fit, losses = jax.eval_shape(DeepDecoder().fit, image, known)
    assert fit.shape == shape and losses.shape == (5000,)


def test_no_images_are_no_images():
    images, known = masked()
    assert TINY(images[:0], known[:0]).shape == (0, 16, 16, 3)


def test_images_without_a_mask_are_an_error():
    assert TINY.reads == "images and mask"
    with pytest.raises(ValueError, match=r"needs to know the mask: give `known`"):
        TINY(masked()[0])


def test_fields_of_the_network_are_checked_with_its_own():
    with pytest.raises(ValueError, match=r"DeepDecoder\.steps 0 must be at least 1"):
        DeepDecoder(steps=0)
    with pytest.raises(ValueError, match="width"):
        DeepDecoder(width=0)


def test_the_protocol_says_what_is_done_and_equal_ones_are_equal():
    assert "5,000 steps" in DeepDecoder().protocol
    assert "where unknown" in DeepDecoder(known_pixels="kept").protocol
    assert DeepDecoder() == DeepDecoder(5000, 0.0025)
    assert hash(DeepDecoder()) == hash(DeepDecoder())
