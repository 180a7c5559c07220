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
from jax_rcl.data.sources import Digits

digits = Digits("train")
print(f"{len(digits)} training images of the classes {' '.join(digits.class_names)}")
print({name: (x.shape, x.dtype) for name, x in digits[0].items()})

# %% [markdown]
# Contrastive learning compares random *views* of the images. Here a view is a crop of
# half of the area or more, resized to 8x8. An operation takes a key and an image in
# [0, 1]; `Chain` puts operations in a row, `Views` makes several views of each image.

# %%
from jax_rcl.augment.compose import Chain, Views, unit_range
from jax_rcl.augment.geometry import RandomResizedCrop
from jax_rcl.report import plots

augment = Views(Chain((RandomResizedCrop(8, area=(0.5, 1.0)),)), count=4)
images = np.stack([digits[i]["image"] for i in range(8)])
labels = np.stack([digits[i]["label"] for i in range(8)])
keys = jax.random.split(jax.random.key(0), len(images))
views = jax.vmap(augment.of_one)(keys, unit_range(images))
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


def on_circle(angles):
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def supcon(angles):
    z, names = on_circle(angles), {"row_labels": class_of, "column_labels": class_of}
    return contrastive.supcon(
        z, z, row_ids=ids, column_ids=ids, **names, temperature=0.5
    ).mean()


def nt_xent(angles):
    z, names = (
        on_circle(angles),
        {"row_examples": image_of, "column_examples": image_of},
    )
    return contrastive.nt_xent(
        z, z, row_ids=ids, column_ids=ids, **names, temperature=0.5
    ).mean()


def descend(loss, angles, steps=300, rate=1.5):
    """Angles [steps, 30] on the way, and the loss at each."""

    def step(angles, _):
        value, slope = jax.value_and_grad(loss)(angles)
        return angles - rate * slope, (angles, value)

    return jax.jit(lambda x: jax.lax.scan(step, x, None, length=steps)[1])(angles)


start = jax.random.uniform(jax.random.key(1), (30,), maxval=2 * jnp.pi)
paths = {"SupCon": descend(supcon, start), "NT-Xent": descend(nt_xent, start)}

# %% [markdown]
# Time runs outwards, from the common start to the circle; colours are classes.

# %%
from jax_rcl.report import drawing

figure = drawing.figure(800, 430)
for axes, (name, (angles, values)) in zip(
    figure.subplots(1, 2), paths.items(), strict=True
):
    title = f"{name}: loss {values[0]:.2f} → {values[-1]:.2f}"
    drawing.style(axes, title=title)
    axes.grid(False)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines["bottom"].set_visible(False)
    radius = 0.35 + 0.65 * np.log1p(np.arange(300)) / np.log(300)
    way = radius[:, None, None] * on_circle(angles)
    for point in range(30):
        colour = drawing.PALETTE[int(class_of[point])]
        axes.plot(*way[:, point].T, color=colour, linewidth=1, alpha=0.7)
        axes.plot(*way[0, point], "o", color=colour, markersize=3)
        axes.plot(*way[-1, point], "o", color=colour, markersize=8, alpha=0.7)
figure

# %% [markdown]
# SupCon draws each class together into one point, and the three points as far apart as
# they can be: the corners of a regular simplex, which is where the loss is smallest
# (Graf et al. 2021). NT-Xent joins only the two views of an image, and spreads the
# images evenly over the circle, whatever their classes (Wang and Isola 2020).
#
# Both end where theory says. With $m = 10$ points in each of 3 classes, two classes
# have the cosine $-1/2$; with 15 images, neighbours are 24° apart:

# %%
tau, apart = 0.5, 2 * np.pi / 15 * np.arange(1, 15)
least = {
    "SupCon": np.log(9 * np.exp(1 / tau) + 20 * np.exp(-0.5 / tau)) - 1 / tau,
    "NT-Xent": np.log(np.exp(1 / tau) + 2 * np.exp(np.cos(apart) / tau).sum())
    - 1 / tau,
}
for name, (_, values) in paths.items():
    print(f"{name:8} reached {values[-1]:.4f}, in theory {least[name]:.4f}")

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
from jax_rcl.evaluate.linear_probe import LinearProbe
from jax_rcl.evaluate.neighbours import Neighbours
from jax_rcl.networks.heads import Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.supcon import SimCLR, SupCon
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
            learning_rate=0.3,
            schedule=node(Cosine, warmup_epochs=1.0),
            weight_decay=1e-4,
            nesterov=True,
        ),
        batch_size=128,
        epochs=EPOCHS,
        evaluators={
            "knn": node(Neighbours, train, test),
            "probe": node(LinearProbe, train, test),
        },
        log_every=2,
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
# The training loss is the mean of $L_i$ over the views of a batch.

# %%
from jax_rcl.report import curves, log
from jax_rcl.run import Run, restore_variables

run = Run.prepare(config, "runs/supcon")
history = log.read("runs/supcon")
curves.curves(history, steps_per_epoch=run.plan.steps_per_epoch)

# %% [markdown]
# The trained encoder is a function from images to named features. Evaluators that have
# more to say than numbers give findings, which can be drawn.

# %%
from jax_rcl.results import make_encoder

_, variables = restore_variables(run)
encode = make_encoder(run)(variables)
findings = run.experiment.evaluators["probe"].findings(encode)
for finding in findings.values():
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


evaluators = run.experiment.evaluators
table = {
    "SupCon": numbers,
    "SimCLR": numbers_without,
    "pixels": {
        f"{name}/{key}": value
        for name, evaluator in evaluators.items()
        for key, value in evaluator.run(pixels).items()
    },
}
print(f"{'test accuracy in %':20}{'neighbours':>12}{'linear probe':>14}")
for name, found in table.items():
    print(f"{name:20}{100 * found['knn/top1']:12.1f}{100 * found['probe/top1']:14.1f}")

# %% [markdown]
# Digits are easy: the test set has 359 images, so that one image is 0.3 % and the
# standard error of these numbers is about 0.6 %. The difference between the methods
# shows better in *how* they arrange the images. Cosines of pairs of test images, as the
# loss sees them:

# %%
from jax_rcl.evaluate.features import features

other = Run.prepare(without_labels, "runs/simclr")
encoders = {
    "SupCon": encode,
    "SimCLR": make_encoder(other)(restore_variables(other)[1]),
}
figure = drawing.figure(800, 300)
for axes, (name, each) in zip(
    figure.subplots(1, 2, sharey=True), encoders.items(), strict=True
):
    z, label = features(each, Digits("test"), layer="embedding")
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosine, alike = z @ z.T, label[:, None] == label[None, :]
    pair = np.triu(np.ones_like(alike), k=1)
    drawing.style(axes, title=name, x="cosine of two test images", y="density")
    bins = {"bins": np.linspace(-1, 1, 61), "density": True, "alpha": 0.6}
    axes.hist(
        cosine[pair & alike], **bins, color=drawing.PALETTE[0], label="same class"
    )
    axes.hist(
        cosine[pair & ~alike], **bins, color=drawing.PALETTE[1], label="other class"
    )
    axes.legend(frameon=False, labelcolor=drawing.TEXT, fontsize=9)
figure

# %% [markdown]
# As on the circle: SupCon turns classes into points; SimCLR keeps the images of a class
# apart from each other as well.

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
