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
# # SupCon in ten minutes
#
# Install, look at the data, look at the loss, train, change one thing. Everything runs
# on a CPU in a few minutes.

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
from IPython.display import display

# Passes over the data in each of the two runs below.
EPOCHS = int(os.environ.get("EPOCHS", 10))

# %% [markdown]
# ## 2. What the network sees
#
# The data are 1,797 handwritten digits, gray, 8x8 pixels, which scikit-learn carries. A
# source is a sequence of records; a fifth of every class is held out for testing.

# %%
from jax_rcl.data import Digits

digits = Digits("train")
print(f"{len(digits)} training images of the classes {' '.join(digits.class_names)}")
print({name: (x.shape, x.dtype) for name, x in digits[0].items()})

# %% [markdown]
# Contrastive learning compares random *views* of the images. Here a view is a crop of
# half of the area or more, resized to 8x8. An operation takes a key and an image in
# [0, 1]; `Chain` puts operations in a row, `Views` makes several views of each image.

# %%
from jax_rcl.augment import Chain, RandomResizedCrop, Views, unit_range
from jax_rcl.report.figures import plots

augment = Views(Chain((RandomResizedCrop(8, area=(0.5, 1.0)),)), count=4)
images = np.stack([digits[i]["image"] for i in range(8)])
labels = np.stack([digits[i]["label"] for i in range(8)])
keys = jax.random.split(jax.random.key(0), len(images))
views = jax.jit(jax.vmap(augment.of_one))(keys, unit_range(images))
plots.views(np.asarray(views), labels, digits.class_names)

# %% [markdown]
# ## 3. The loss, without a network
#
# Let $z_i$ be unit vectors, one for each view. The supervised contrastive loss of view
# $i$ is
#
# $$
# L_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)}
#   \log \frac{\exp(z_i \cdot z_p / \tau)}{\sum_{a \neq i} \exp(z_i \cdot z_a / \tau)}
# $$
#
# where $\tau$ is the temperature and $P(i)$ are the views that $i$ shall be near to.
#
# * In **SupCon** (Khosla et al. 2020), $P(i)$ are all other views of the same class.
# * In **NT-Xent**, the loss of SimCLR (Chen et al. 2020), $P(i)$ are the other views of
#   the same image. Labels are not used.
#
# A loss is a function of arrays: rows, which are the $z_i$, and columns, which they are
# compared with. In training, the columns come from all devices; here they are the rows.
#
# We put 30 points on a circle: 3 classes of 5 images with 2 views each. Gradient
# descent moves the points themselves.

# %%
from jax_rcl.losses import contrastive

ids = jnp.arange(30)
image_of, class_of = ids // 2, ids // 10


def supcon(z):
    return contrastive.supcon(
        rows=z,
        columns=z,
        row_ids=ids,
        column_ids=ids,
        row_labels=class_of,
        column_labels=class_of,
        temperature=0.5,
    ).mean()


def nt_xent(z):
    return contrastive.nt_xent(
        rows=z,
        columns=z,
        row_ids=ids,
        column_ids=ids,
        row_examples=image_of,
        column_examples=image_of,
        temperature=0.5,
    ).mean()


def on_circle(angles):
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def descend(loss, angles, steps=400, rate=1.5):
    """Angles and loss at every step of gradient descent."""

    def step(angles, _):
        value, slope = jax.value_and_grad(lambda x: loss(on_circle(x)))(angles)
        return angles - rate * slope, (angles, value)

    return jax.jit(lambda x: jax.lax.scan(step, x, None, length=steps)[1])(angles)


start = jax.random.uniform(jax.random.key(1), (30,), maxval=2 * jnp.pi)
paths = {"SupCon": descend(supcon, start), "NT-Xent": descend(nt_xent, start)}

# %% [markdown]
# Time runs outwards, from the common start inside to the end on the circle. Colours are
# classes.

# %%
from jax_rcl.report.figures import drawing

figure = drawing.figure(800, 430)
places = figure.subplots(1, 2)
for axes, (name, (angles, values)) in zip(places, paths.items(), strict=True):
    drawing.style(axes, title=f"{name}: loss {values[0]:.2f} → {values[-1]:.2f}")
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
    axes.set_axis_off()
    around = on_circle(np.linspace(0, 2 * np.pi, 200))
    axes.plot(*around.T, color=drawing.LINE, linewidth=1)
    outwards = np.log1p(np.arange(len(angles))) / np.log(len(angles))
    way = (0.35 + 0.65 * outwards)[:, None, None] * on_circle(angles)
    for point, k in enumerate(class_of):
        x, y = way[:, point].T
        colour = {"color": drawing.PALETTE[k], "alpha": 0.7}
        axes.plot(x, y, linewidth=1, **colour)
        axes.plot(x[0], y[0], "o", markersize=3, **colour)
        axes.plot(x[-1], y[-1], "o", markersize=8, **colour)
figure

# %% [markdown]
# SupCon draws each class together into one point, and the three points as far apart as
# they can be: the corners of a regular simplex, which is where the loss is smallest
# (Graf et al. 2021). NT-Xent joins only the two views of an image, and spreads the
# images evenly over the circle, whatever their classes (Wang and Isola 2020).
#
# Both end where the formula says. With 10 points in each of the 3 corners, the cosine
# of two classes is $-1/2$; of 15 images spread evenly, the next is 24° away:

# %%
cosines = np.cos(2 * np.pi / 15 * np.arange(1, 15))
expected = {
    "SupCon": np.log(9 * np.exp(1 / 0.5) + 20 * np.exp(-0.5 / 0.5)) - 1 / 0.5,
    "NT-Xent": np.log(np.exp(1 / 0.5) + 2 * np.exp(cosines / 0.5).sum()) - 1 / 0.5,
}
for name, (_, values) in paths.items():
    print(f"{name:8} reached {values[-1]:.4f}, expected {expected[name]:.4f}")

# %% [markdown]
# Does a network do the same to images?

# %% [markdown]
# ## 4. Train
#
# A config is a tree of nodes. `node(SupCon, temperature=0.1)` stands for the object
# `SupCon(temperature=0.1)`: it holds the name of the class and all its fields, so that
# it can be changed, compared and written down. The objects are made when training
# starts.

# %%
from jax_rcl.config import Experiment, differences, node
from jax_rcl.evaluate import LinearProbe, Neighbours
from jax_rcl.networks import Mlp, Normalized, ResNet
from jax_rcl.objectives import SimCLR, SupCon
from jax_rcl.optim import Cosine, Sgd


def experiment(method, temperature=0.1):
    """A narrow ResNet-10 on the digits."""
    train, test = node(Digits, "train"), node(Digits, "test")
    crop = node(RandomResizedCrop, 8, area=(0.5, 1.0))
    resnet = node(ResNet, depth=10, width=16, stem="small")
    return node(
        Experiment,
        source=train,
        augment=node(Views, node(Chain, (crop,))),
        objective=node(
            method,
            encoder=node(Normalized, resnet, mean=(0.3,), std=(0.37,)),
            projector=node(Mlp, (64, 64)),
            temperature=temperature,
        ),
        optimizer=node(
            Sgd,
            learning_rate=0.1,
            schedule=node(Cosine, warmup_epochs=2.0),
            weight_decay=1e-4,
            nesterov=True,
        ),
        batch_size=64,
        epochs=EPOCHS,
        evaluators={
            "knn": node(Neighbours, train, test),
            "probe": node(LinearProbe, train, test),
        },
        log_every=5,
    )


config = experiment(SupCon)

# %% [markdown]
# A mistake is found where it is written.

# %%
try:
    node(Mlp, (64, 64), activations="relu")
except ValueError as error:
    print(error)

# %% [markdown]
# The encoder gives the features that we want; the projector maps them to the $z_i$ of
# the loss and is thrown away afterwards. Two evaluators look at the features of the
# test images: a vote of the nearest training images, and a linear classifier.
#
# Everything that a run leaves goes to its workdir. The same call again continues where
# the last one stopped; once the run is finished, it only says so.

# %%
from jax_rcl.train import train

numbers = train(config, "runs/supcon")

# %% [markdown]
# What is left in the workdir is all that one needs to look at a run. The trained
# encoder is a function from images to named features.

# %%
from jax_rcl.report import log
from jax_rcl.report.figures import curves
from jax_rcl.train import trained

run, encode = trained("runs/supcon")
history = log.read("runs/supcon")
curves.curves(history, steps_per_epoch=run.plan.steps_per_epoch)

# %% [markdown]
# Evaluators that have more to say than numbers give findings, which can be drawn. Here:
# which digits the linear probe takes for which, and a map of the test images in which
# neighbours have similar features.

# %%
for finding in run.experiment.evaluators["probe"].findings(encode).values():
    caption, figure = plots.draw(finding)
    print(caption)
    display(figure)

# %% [markdown]
# ## 5. Change one thing
#
# SimCLR instead of SupCon: the same network, data, augmentation, optimizer and
# temperature, but no labels.

# %%
without_labels = experiment(SimCLR)

print("\n".join(differences(config, without_labels)))

# %%
numbers_without = train(without_labels, "runs/simclr")

# %% [markdown]
# Evaluators know nothing of training: they take any function from images to features.
# So we can also ask how well the pixels themselves do.


# %%
def pixels(images):
    return {"features": np.reshape(images, (len(images), -1))}


numbers_of_pixels = {
    f"{name}/{key}": value
    for name, evaluator in run.experiment.evaluators.items()
    for key, value in evaluator.run(pixels).items()
}
table = {"SupCon": numbers, "SimCLR": numbers_without, "pixels": numbers_of_pixels}
print(f"{'test accuracy in %':20}{'neighbours':>12}{'linear probe':>14}")
for name, found in table.items():
    print(f"{name:20}{100 * found['knn/top1']:12.1f}{100 * found['probe/top1']:14.1f}")

# %% [markdown]
# Digits are easy, and pixels do well. The test set has only 359 images: the standard
# error of an accuracy of 98 % is 0.7 %. What the losses do shows better in the cosines
# of the embeddings $z_i$ of pairs of test images.

# %%
from jax_rcl.evaluate import features

_, encode_without = trained("runs/simclr")

figure = drawing.figure(800, 300)
places = figure.subplots(1, 2, sharey=True)
encoders = {"SupCon": encode, "SimCLR": encode_without}
for axes, (name, each) in zip(places, encoders.items(), strict=True):
    z, label = features.features(each, Digits("test"), layer="embedding")
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    one, two = np.triu_indices(len(z), k=1)
    cosine, alike = (z @ z.T)[one, two], label[one] == label[two]
    drawing.style(axes, title=name, x="cosine of two test images")
    for title, part, colour in (
        ("same class", alike, drawing.PALETTE[0]),
        ("different classes", ~alike, drawing.PALETTE[1]),
    ):
        style = {"color": colour, "alpha": 0.6, "label": title}
        axes.hist(cosine[part], np.linspace(-1, 1, 51), density=True, **style)
    axes.set(yscale="log", ylim=(0.01, 50), xticks=(-1, -0.5, 0, 0.5, 1))
    axes.minorticks_off()
places[0].set_ylabel("density (log scale)")
places[0].legend(loc="upper left", frameon=False, labelcolor=drawing.TEXT)
figure

# %% [markdown]
# As on the circle: SupCon draws each class together, nearly to a point; SimCLR keeps
# the images of a class apart from each other, too. Where SupCon has its minimum,
# different classes have the cosine $-1/9$: they are the corners of a simplex of ten.

# %% [markdown]
# ## 6. What to do next
#
# * Change something else. Every field can be set: `config.objective.temperature = 0.5`.
#   A workdir holds one run, so give the changed config another one.
# * Open `runs/supcon/report/index.html`: numbers, curves, pictures and the whole config
#   on one page. `tensorboard --logdir=runs` compares runs.
# * Use the command line, with a config in a file. It is the same machine:
#
#   ```
#   git clone https://github.com/jax-rcl/jax_rcl && cd jax_rcl
#   python -m jax_rcl.main --config=configs/quickstart.py
#   python -m jax_rcl.main --config=configs/quickstart.py --mode=check
#   python -m jax_rcl.main --config=configs/quickstart.py \
#       --config.objective.temperature=0.5 --workdir=runs/warmer
#   ```
#
# * Go on to `configs/fashion_supcon.py` (Fashion-MNIST, for two CPU cores) and
#   `configs/cifar_supcon.py` (CIFAR-10, for an accelerator).
# * Write a method of your own: a frozen dataclass with `init`, `loss` and `encode`; see
#   `jax_rcl.core.Objective`. Nothing needs to be registered.
