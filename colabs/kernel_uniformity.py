# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A kernel on the centroids in ten minutes
#
# Contrastive learning without positives and negatives: the views of an image are
# averaged, and the averages, *centroids*, repel each other. What is known of the images
# beside their pixels, the *prior*, decides which of them shall not (Dufumier et al.
# 2023, [Integrating Prior Knowledge in Contrastive Learning with
# Kernel](https://arxiv.org/abs/2206.01646)). We look at what the kernel does to the
# centroids. Everything runs on a CPU in a few minutes. How a run works, and a config,
# is told more slowly in `supcon.ipynb`.

# %% [markdown]
# ## 1. Install
#
# Does nothing where jax_rcl is installed already.

# %%
import importlib.util

if importlib.util.find_spec("jax_rcl") is None:
    REPOSITORY = "https://github.com/jax-rcl/jax_rcl"
    # %pip install -q git+$REPOSITORY

# %matplotlib inline
# %config InlineBackend.figure_formats = ["retina"]

# %%
import os

import jax
import jax.numpy as jnp
import numpy as np
from IPython.utils.capture import capture_output

# Passes over the data in each of the two runs below.
EPOCHS = int(os.environ.get("EPOCHS", 20))

# %% [markdown]
# ## 2. The loss, without a network
#
# Let $z_i$ and $z'_i$ be unit vectors, the embeddings of two views of image $i$, and
# $c_i = (z_i + z'_i) / 2$ its centroid. Decoupled uniformity is
#
# $$
# L = \log \frac{1}{n (n - 1)} \sum_{i \neq j} e^{-t \|c_i - c_j\|^2}
# $$
#
# with $t = 2$: low where centroids are far apart. Nothing in it says that two views of
# an image shall agree. But a centroid has the length $\cos(\theta / 2)$ where $\theta$
# is the angle between the views, so that who wants to be far away must have views that
# agree. We take images with two views each, all on a circle, and let gradient descent
# move the views.

# %%
from jax_rcl.losses import uniformity


def loss_of(c):
    ids = jnp.arange(len(c))
    potentials = uniformity.log_potentials(c, c, row_ids=ids, column_ids=ids)
    return uniformity.decoupled_uniformity(potentials)


def centroids_at(angles):
    views = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return uniformity.centroids(views)


def descend(loss, angles, steps=3000, rate=0.3):
    """Centroids and loss at every step of gradient descent on the views' angles."""

    def step(angles, _):
        value, slope = jax.value_and_grad(lambda x: loss(centroids_at(x)))(angles)
        return angles - rate * slope, (centroids_at(angles), value)

    return jax.jit(lambda x: jax.lax.scan(step, x, None, length=steps)[1])(angles)


start = jax.random.uniform(jax.random.key(0), (12, 2), maxval=2 * jnp.pi)
few, many = descend(loss_of, start[6:]), descend(loss_of, start)

# %% [markdown]
# Left: the length of a centroid, by the angle between its views. Then the ways of six
# and of twelve centroids; small dots are the start, large ones the end.

# %%
from jax_rcl.report.figures import drawing


def disc(axes, title):
    drawing.style(axes, title=title)
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
    axes.set_axis_off()
    around = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(around), np.sin(around), color=drawing.LINE, linewidth=1)


def ways(axes, c, groups):
    for way, group in zip(np.asarray(c).swapaxes(0, 1), groups, strict=True):
        colour = {"color": drawing.PALETTE[group], "alpha": 0.7}
        axes.plot(*way.T, linewidth=1, **colour)
        axes.plot(*way[0], "o", markersize=3, **colour)
        axes.plot(*way[-1], "o", markersize=8, **colour)


figure = drawing.figure(800, 290)
left, *places = figure.subplots(1, 3)
between = np.linspace(0, np.pi, 100)
pairs = np.stack([np.zeros_like(between), between], axis=1)
lengths = jnp.linalg.norm(centroids_at(jnp.asarray(pairs)), axis=1)
drawing.style(left, title="length of a centroid", x="angle between its views")
left.plot(np.degrees(between), lengths, color=drawing.PALETTE[0])
left.set_xticks((0, 60, 120, 180), ("0°", "60°", "120°", "180°"))
for axes, (c, values) in zip(places, (few, many), strict=True):
    disc(axes, f"{c.shape[1]} images: {values[0]:.2f} → {values[-1]:.2f}")
    ways(axes, c, [0] * c.shape[1])
    print(f"{c.shape[1]} images, lengths at the end:", end=" ")
    print(*(f"{x:.2f}" for x in np.sort(np.linalg.norm(c[-1], axis=1))))
corners = centroids_at(jnp.pi / 3 * jnp.arange(6)[:, None].repeat(2, axis=1))
print(f"loss of six: reached {few[1][-1]:.4f}, of a hexagon {loss_of(corners):.4f}")
figure

# %% [markdown]
# Six centroids end in the corners of a hexagon, and their views agree. Twelve find no
# room on the circle: it pays that the views of one lie opposite to each other, so that
# its centroid stays in the middle. Uniformity alone makes views agree as long as there
# is room, and in a plane there is little. Embeddings have many more dimensions.

# %% [markdown]
# ## 3. A kernel
#
# The prior of image $i$ is a vector $p_i$, of attributes or of features of another
# model. A kernel says how alike two of them are, here
# $K_{ij} = \exp(-\|p_i - p_j\|^2 / 2 \sigma^2)$. The loss then takes in place of $c$
# the centroids
#
# $$
# \tilde c = W c, \qquad W = (K + \lambda I)^{-1} K,
# $$
#
# the estimate by kernel ridge regression of what a centroid is, given its prior. We
# take 24 priors in a plane, in three groups of eight, and look at $K$ and $W$ for
# three $\sigma$.

# %%
from jax_rcl.losses import Rbf

group_of = np.repeat(np.arange(3), 8)
corner = 2 * np.pi / 3 * np.arange(3) + np.pi / 2
middles = np.stack([np.cos(corner), np.sin(corner)], axis=1)
noise = 0.15 * np.random.default_rng(0).normal(size=(24, 2))
priors = jnp.asarray(middles[group_of] + noise, jnp.float32)


def weights(kernel, ridge):
    """W, whose columns are the smoothed unit vectors."""
    return uniformity.kernel_centroids(kernel, jnp.eye(len(kernel)), ridge=ridge)


ridge, sigmas = 0.1, (0.03, 0.5, 5.0)
kernels = {sigma: Rbf(sigma)(priors) for sigma in sigmas}


def heat(axes, matrix, title):
    drawing.style(axes, title=title)
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    return image


figure = drawing.figure(800, 400)
places = figure.subplots(2, 4)
for k in range(3):
    places[0, 0].plot(*priors[group_of == k].T, "o", color=drawing.PALETTE[k])
drawing.style(places[0, 0], title="the priors")
places[0, 0].set(aspect="equal", xticks=[], yticks=[])
places[1, 0].set_axis_off()
for (above, below), (sigma, kernel) in zip(places.T[1:], kernels.items(), strict=True):
    heat(above, kernel, f"K, σ = {sigma:g}")
    image = heat(below, weights(kernel, ridge), f"W, λ = {ridge:g}")
bar = figure.colorbar(image, ax=places[1, 0], location="left", fraction=0.15)
bar.ax.tick_params(colors=drawing.TEXT, labelsize=8.5, length=0)
figure

# %% [markdown]
# With a small $\sigma$ both are nearly the identity: each image is by itself, and the
# prior says nothing. With a large one $K$ is nearly 1 everywhere, but $W$ averages over
# groups: small differences between priors still count, if they are large in comparison
# to $\lambda$.
#
# An eigenvector of $K$ with the eigenvalue $k$ is one of $W$, too, with
# $k / (k + \lambda)$: what the kernel sees well passes, the rest is damped. Curves are
# that formula, dots the eigenvalues of the two matrices, each computed by itself.

# %%
figure = drawing.figure(800, 300)
places = figure.subplots(1, 3, sharey=True)
for axes, (sigma, kernel) in zip(places, kernels.items(), strict=True):
    drawing.style(axes, title=f"σ = {sigma:g}", x="eigenvalue k of K")
    for ridge, colour in zip((0.01, 0.1, 1.0), drawing.PALETTE, strict=False):
        k = np.logspace(-5, 2, 200)
        axes.plot(k, k / (k + ridge), color=colour, label=f"λ = {ridge:g}")
        values = np.linalg.eigvalsh(kernel).clip(1e-5)
        passed = np.linalg.eigvals(weights(kernel, ridge)).real
        style = {"color": colour, "alpha": 0.6, "markersize": 5}
        axes.plot(np.sort(values), np.sort(passed), "o", **style)
    axes.set_xscale("log")
places[0].set_ylabel("eigenvalue of W", color=drawing.TEXT)
places[0].legend(loc="upper left", frameon=False, labelcolor=drawing.TEXT)
figure

# %% [markdown]
# With $\sigma = 0.03$ all eigenvalues are about 1, and $\lambda$ damps all alike. With
# 0.5 three stand out, one for each group; $\lambda$ decides how much passes of the
# differences within groups. With 5 the largest is the mean of all, the next two are
# differences between groups, and the rest, within groups, hardly passes.

# %% [markdown]
# ## 4. What it does to centroids
#
# Now each of the 24 images gets a centroid, of two random views which lie more or less
# in the direction of its group. An arrow goes from each centroid to where the kernel
# with $\sigma = 0.5$ puts it.

# %%
scatter = 0.8 * np.random.default_rng(1).normal(size=(24, 2))
c = centroids_at(jnp.asarray(corner[group_of, None] + scatter, jnp.float32))

figure = drawing.figure(800, 300)
for axes, ridge in zip(figure.subplots(1, 3), (0.01, 1.0, 10.0), strict=True):
    smoothed = uniformity.kernel_centroids(kernels[0.5], c, ridge=ridge)
    disc(axes, f"λ = {ridge:g}")
    for k in range(3):
        before, after = (np.asarray(x[group_of == k]) for x in (c, smoothed))
        colour = {"color": drawing.PALETTE[k], "alpha": 0.7}
        axes.plot(*before.T, "o", markersize=5, markerfacecolor="none", **colour)
        arrow = {"units": "xy", "scale": 1, "width": 0.015, **colour}
        axes.quiver(*before.T, *(after - before).T, **arrow)
figure

# %% [markdown]
# With $\lambda = 0.01$ images go a part of the way to the others of their group. With 1
# they nearly meet, also with the orange one that lay among the blue. With 10 all
# centroids get shorter, too.

# %% [markdown]
# ## 5. The loss with a kernel
#
# Now the smoothed centroids repel each other, and gradient descent moves the views as
# before: 12 images in three groups of four, from the same start without a kernel, with
# the groups as prior, and, as a control, with 64 random bits for each image. No
# gradient goes through $W$.

# %%
third = np.repeat(np.arange(3), 4)
bits = jax.random.bernoulli(jax.random.key(2), shape=(12, 64)).astype(jnp.float32)
smoothing = {
    "no prior": jnp.eye(12),
    "groups": weights(Rbf(0.5)(jnp.asarray(middles[third], jnp.float32)), 0.01),
    "random bits": weights(Rbf(4.0)(bits), 0.01),
}


def descend_smoothed(W):
    return descend(lambda c: loss_of(W @ c), start)


paths = jax.vmap(descend_smoothed)(jnp.stack(list(smoothing.values())))

figure = drawing.figure(800, 300)
places = figure.subplots(1, 3)
one, two = np.triu_indices(12, k=1)
same = third[one] == third[two]
for axes, name, c, values in zip(places, smoothing, *paths, strict=True):
    disc(axes, f"{name}: {values[0]:.2f} → {values[-1]:.2f}")
    ways(axes, c, third)
    squares = jnp.sum((c[-1][one] - c[-1][two]) ** 2, axis=1)
    print(f"{name:12} mean squared distance within a group", end=" ")
    print(f"{squares[same].mean():.2f}, between groups {squares[~same].mean():.2f}")
figure

# %% [markdown]
# Without a prior groups mean nothing. With it each comes together, and the three are as
# far apart as they can be: what repels is the mean of a group, and it is longest where
# all its views agree. Random bits make all pairs of images about equally alike; the
# picture is that without prior, and nothing is gained.

# %% [markdown]
# ## 6. Emoji and their words
#
# Does a network gain from it? The data are 1,906 emoji as Google draws them, downloaded
# once (71 MB). Every one has a name, and the prior has a bit for each word that two
# names or more have. Two names that differ in $d$ words have
# $K = \exp(-d / 2 \sigma^2)$. Labels, nine groups such as Food & Drink, are not used in
# training. But a name may tell them: this is weak supervision.

# %%
from jax_rcl.data import Emoji, WithKeywords

informed = WithKeywords(Emoji("google", "train"))
for i in (37, 407, 629, 814, 888, 1147):
    own = [informed.words[j] for j in np.flatnonzero(informed.priors[i])]
    print(f"{informed.names[i]:24}{', '.join(own) or '-'}")
bare = int((informed.priors.sum(axis=1) == 0).sum())
print(f"{len(informed)} images, {len(informed.words)} words; {bare} have none of them")

# %% [markdown]
# A batch of 128 as the loss sees it, sorted by group: $W$ without its diagonal, for
# the $\sigma$ and $\lambda$ that we train with. Darker is more, blue is below 0.

# %%
SIGMA, RIDGE = 10.0, 0.01

rows = np.random.default_rng(0).permutation(len(informed))[:128]
labels = np.array([informed[i]["label"] for i in rows])
order = np.argsort(labels, kind="stable")
batch = jnp.asarray(informed.priors[rows[order]])
W = np.array(weights(Rbf(SIGMA)(batch), RIDGE))
print(f"mean of the diagonal {np.diag(W).mean():.2f}")
np.fill_diagonal(W, 0)

figure = drawing.figure(800, 520)
axes = figure.subplots()
drawing.style(axes)
limit = np.abs(W).max() / 2
axes.imshow(W, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="none")
axes.grid(False)
axes.set_xticks([])
places = [np.flatnonzero(labels[order] == k).mean() for k in np.unique(labels)]
axes.set_yticks(places, [informed.class_names[k] for k in np.unique(labels)])
figure

# %% [markdown]
# Flags are a block: all have the word flag. Many faces share a word, and many people,
# where "man" and "woman" are words like others. Animals, food and objects mostly have
# names of their own. With no word at all they are all alike to this kernel, the faint
# tiles across the groups: a prior is not right everywhere.
#
# Now two runs that differ in nothing but the prior. `LinearProbe` reads the group from
# the frozen features of test images, whose words nobody asks for.

# %%
from jax_rcl.augment import (
    Chain,
    ColorJitter,
    Flip,
    Grayscale,
    Maybe,
    RandomResizedCrop,
    Resize,
    Views,
)
from jax_rcl.config import Experiment, differences, node
from jax_rcl.evaluate import LinearProbe
from jax_rcl.networks import Mlp, ResNet
from jax_rcl.objectives import Uniformity
from jax_rcl.optim import EpochCosine, Sgd

train_set, test_set = (node(Emoji, "google", split) for split in ("train", "test"))
jitter = node(Maybe, node(ColorJitter, 0.4, 0.4, 0.4, 0.1), 0.8)
gray = node(Maybe, node(Grayscale), 0.2)
crop = node(RandomResizedCrop, 32, area=(0.2, 1.0))
strengths = (1e-3, 1e-2, 3e-2, 0.1, 0.3)
seen = node(Resize, 32)


def experiment(source, kernel):
    """A very narrow ResNet-10 on emoji of 32x32 pixels."""
    return node(
        Experiment,
        source=source,
        augment=node(Views, node(Chain, (crop, jitter, gray, node(Flip)))),
        objective=node(
            Uniformity,
            encoder=node(ResNet, depth=10, width=8),
            projector=node(Mlp, (64, 64)),
            kernel=kernel,
            ridge=RIDGE,
        ),
        optimizer=node(
            Sgd, 0.1, schedule=node(EpochCosine), weight_decay=1e-4, decayed="all"
        ),
        batch_size=128,
        epochs=EPOCHS,
        evaluators={
            "probe": node(
                LinearProbe, train_set, test_set, strengths=strengths, preprocess=seen
            ),
        },
        log_every=5,
    )


configs = {
    "without": experiment(train_set, None),
    "words": experiment(node(WithKeywords, train_set), node(Rbf, SIGMA)),
}
print("\n".join(differences(*configs.values())))

# %%
from jax_rcl.train import train

for name, config in configs.items():
    with capture_output():
        found = train(config, f"runs/{name}")
    accuracy = [100 * found[f"probe/{key}"] for key in ("top1", "balanced")]
    print(f"{name:10} probe {accuracy[0]:.1f} %, balanced {accuracy[1]:.1f} %")

# %% [markdown]
# Accuracies hardly tell the two apart, 53.3 and 54.0 % with the seed above. There are
# 383 test images, and the standard error of such an accuracy is 2.5 %. Smoothing more
# was worse: 50.7 % with $\lambda = 0.1$, 47.0 % with 1.
#
# What has become of the features? Two maps of the test images, in which neighbours have
# similar features.

# %%
from jax_rcl.evaluate import features
from jax_rcl.train import trained

maps, means = {}, {}
for name in configs:
    run, encode = trained(f"runs/{name}")
    maps[name] = run.experiment.evaluators["probe"].findings(encode)["embedding"]
    asked = {"layer": "embedding", "preprocess": Resize(32)}
    z, label = features.features(encode, Emoji("google", "test"), **asked)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    member = np.eye(9)[label]
    sums = member.T @ (z @ z.T - np.eye(len(z))) @ member
    counts = np.outer(member.sum(axis=0), member.sum(axis=0))
    means[name] = sums / (counts - np.diag(member.sum(axis=0)))

groups = maps["words"].class_names
figure = drawing.figure(800, 470)
places = figure.subplots(1, 2)
for axes, (name, found) in zip(places, maps.items(), strict=True):
    drawing.style(axes, title=name)
    axes.set(xticks=[], yticks=[])
    for k, group in enumerate(groups):
        dots = {"color": drawing.PALETTE[k], "alpha": 0.7, "label": group}
        axes.plot(*found.points[found.labels == k].T, "o", markersize=4, **dots)
handles, names = places[0].get_legend_handles_labels()
style = {"frameon": False, "labelcolor": drawing.TEXT, "fontsize": 9}
figure.legend(handles, names, loc="outside lower center", ncols=5, **style)
figure

# %% [markdown]
# With words most flags and many faces have moved together. The groups in the middle are
# mixed in both maps. Last, the mean cosines of the embeddings of two test images, by
# their groups; these embeddings are what the loss is about.

# %%
figure = drawing.figure(800, 380)
places = figure.subplots(1, 2, sharey=True)
for axes, (name, cosines) in zip(places, means.items(), strict=True):
    of_one = np.trace(cosines) / 9
    of_two = (cosines.sum() - np.trace(cosines)) / 72
    print(f"{name:10} mean within groups {of_one:.2f}, between groups {of_two:.2f}")
    image = heat(axes, cosines, name)
    axes.set_yticks(range(9), groups)
bar = figure.colorbar(image, ax=places, shrink=0.7)
bar.ax.tick_params(colors=drawing.TEXT, labelsize=8.5, length=0)
figure

# %% [markdown]
# Test images of one group are nearer to each other than without words: flags most, then
# people and faces, whose names share words. Food and animals have come nearer to each
# other, too, which fits the faint tiles above: many of their names share no word.
#
# So the kernel does to embeddings what it did in the plane, also of images whose words
# it never saw. That this makes better features is not shown here: a tiny network, a few
# epochs, one seed. `configs/tables/uniformity.py` has three, more epochs, the control
# with random bits, and SimCLR.

# %% [markdown]
# ## 7. What to do next
#
# * Change the prior: `node(WithRandomBits, train_set)` is the control with a network,
#   `node(WithPrior, train_set, "features.npz")` reads any file of vectors, and
#   `jax-rcl prepare features` writes one from a trained run.
# * Change `kernel`, `ridge` or `scale` of the objective. A workdir holds one run, so
#   give each its own.
# * Use the command line, with more epochs and a wider network:
#
#   ```
#   git clone https://github.com/jax-rcl/jax_rcl && cd jax_rcl
#   python -m jax_rcl.main --config=configs/emoji_uniformity.py:prior=words \
#       --workdir=runs/emoji_words
#   ```
#
# * Train the whole table, with Fashion-MNIST, SimCLR and the control, three seeds:
#
#   ```
#   jax-rcl table --table=configs/tables/uniformity.py \
#       --workdir=runs/uniformity
#   ```
