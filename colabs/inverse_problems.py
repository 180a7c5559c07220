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
# # Seeing through a distortion in ten minutes
#
# An encoder that was trained on clean images is lost where nine pixels of ten are
# black. Ravula et al. 2021 ([Inverse Problems Leveraging Pre-trained Contrastive
# Representations](https://arxiv.org/abs/2110.07439)) teach a copy of it, without a
# label, to say of the distorted image what the encoder says of the clean one. Theirs is
# CLIP; here it is a small network, so that everything runs on a CPU in a few minutes.
# How a run works, and a config, is told more slowly in `supcon.ipynb`.

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

# Passes over the data in each of the three runs below.
EPOCHS = int(os.environ.get("EPOCHS", 15))

# %% [markdown]
# ## 2. Pick a distortion
#
# Here, and nowhere else. The level of a mask is the share of pixels that are black, of
# a square its side in pixels, of noise its standard deviation, where white is 1, of a
# blur the width of the Gaussian in pixels. Then run everything. Another choice trains
# another student; the other two runs are kept.

# %%
DISTORTION = "mask"  # @param ["mask", "square", "noise", "blur"]
LEVEL = 0.9  # @param {type: "number"}

# %%
from jax_rcl.augment import (
    GaussianBlur,
    GaussianNoise,
    Identity,
    RandomMask,
    SquareMask,
)

# Each draws its level for each image, uniformly between two bounds.
between = {
    "mask": lambda low, high: RandomMask((low, high)),
    "square": lambda low, high: SquareMask((int(low), int(high)), "random"),
    "noise": lambda low, high: GaussianNoise((low, high)),
    "blur": lambda low, high: GaussianBlur(27, (low, high)),
}
levels = {
    "mask": (0.5, 0.75, 0.9, 0.95),
    "square": (8, 14, 18, 22),
    "noise": (0.25, 0.5, 0.75, 1.0),
    "blur": (1.0, 2.0, 4.0, 6.0),
}
ranges = {kind: between[kind](own[0], own[-1]) for kind, own in levels.items()}

chosen = between[DISTORTION](LEVEL, LEVEL)
levels[DISTORTION] = tuple(sorted({*levels[DISTORTION], LEVEL}))

# %% [markdown]
# The images are clothes, Fashion-MNIST, downloaded once (30 MB). We take a tenth of
# them, 6,000 for training and 1,000 for testing. A distortion is called with a key and
# an image in [0, 1]. Its method `at` takes the level, too, as data: one compiled
# program serves all levels.

# %%
from jax_rcl.artifacts import Pictures
from jax_rcl.augment import unit_range
from jax_rcl.config import build, node
from jax_rcl.data import Idx, Subset
from jax_rcl.report.figures import drawing, plots

train_set = node(Subset, node(Idx, split="train"), 0.1)
test_set = node(Subset, node(Idx, split="test"), 0.1)
train_source, test_source = build(train_set), build(test_set)


def all_of(source):
    """Images in [0, 1] and labels."""
    records = [source[i] for i in range(len(source))]
    images, labels = (np.stack([x[key] for x in records]) for key in ("image", "label"))
    return unit_range(images), labels


train_images, train_labels = all_of(train_source)
test_images, test_labels = all_of(test_source)
at = {kind: jax.jit(jax.vmap(own.at, (0, 0, None))) for kind, own in ranges.items()}


def distorted(kind, level, images):
    """The images, each with draws of its own."""
    keys = jax.random.split(jax.random.key(0), len(images))
    return at[kind](keys, images, ranges[kind].checked(level))


# One of each of seven classes.
some = np.array([np.flatnonzero(test_labels == k)[1] for k in (0, 1, 2, 3, 5, 8, 9)])

across = 1 + max(map(len, levels.values()))
widths = [1] * across + [0.2] + [1] * across
figure = drawing.figure(800, 1600 / across + 52)
grid = figure.subplots(len(levels), len(widths), width_ratios=widths)
for axes in grid.ravel():
    axes.set_axis_off()
gray = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "none"}
pair = test_images[some[[0, 4]]]
for row, (kind, own) in zip(grid, levels.items(), strict=True):
    columns = {"clean": pair}
    for place, level in enumerate(own):
        name = f"{level:g}" if place else f"{kind} {level:g}"
        columns[name] = distorted(kind, level, pair)
    for first, which in ((0, 0), (across + 1, 1)):
        for axes, (name, images) in zip(row[first:], columns.items(), strict=False):
            axes.imshow(images[which], **gray)
            axes.set_title(name, color=drawing.TEXT, fontsize=8, pad=3)
figure

# %% [markdown]
# Noise is not cut off where it leaves black and white; pictures are. And this is what
# you have chosen:

# %%
names = test_source.class_names


def show(rows):
    """A sheet of images of `some`, with a name to the left of each row."""
    images = np.stack([np.asarray(each) for each in rows.values()])
    sheet = Pictures(images, tuple(rows), test_labels[some], names, method="")
    return plots.draw(sheet)[1]


seen = distorted(DISTORTION, LEVEL, test_images)
title = f"{DISTORTION} {LEVEL:g}"
show({"clean": test_images[some], title: seen[some]})

# %% [markdown]
# ## 3. The loss
#
# Let $t_i$ be what the teacher makes of the clean image $i$, and $s_i$ what the student
# makes of the same image distorted, both divided by their length. The student has to
# find its own teacher among those of the batch:
#
# $$
# L_i = -\log \frac{e^{s_i \cdot t_i / \tau}}{\sum_j e^{s_i \cdot t_j / \tau}},
# \qquad \tau = 0.1
# $$
#
# No label is in it. The teacher does not change any more; the student starts as its
# copy. `Pair` makes one random crop of each image, `clean`, and distorts that one.
#
# Three runs of the same small network:
#
# * the **teacher**, by SupCon on clean clothes. It reads labels, which stand in for the
#   captions that CLIP was trained on;
# * the **student**, of the distortion that you chose, at its level;
# * the **student for all**, which sees each image under one of the four distortions, at
#   any level within its bounds in `ranges`, or clean. It is not in the paper.

# %%
from jax_rcl.augment import Chain, Flip, OneOf, Pair, RandomResizedCrop, Views
from jax_rcl.config import Experiment
from jax_rcl.networks import Mlp, Normalized, ResNet
from jax_rcl.objectives import FROM_ONE_RUN, Distill, SupCon
from jax_rcl.optim import Adam, Cosine, Sgd
from jax_rcl.weights import Restore

anything = OneOf((Identity(), *ranges.values()))
crop = node(Chain, (node(RandomResizedCrop, 28, area=(0.5, 1.0)), node(Flip)))
resnet = node(ResNet, depth=10, width=16)
encoder = node(Normalized, resnet, mean=(0.286,), std=(0.353,))
shared = {"source": train_set, "batch_size": 256, "epochs": EPOCHS, "log_every": 5}


def student_of(distortion):
    """A copy of the teacher that learns to see through a distortion."""
    return node(
        Experiment,
        augment=node(Pair, crop, distortion),
        objective=node(Distill, encoder),
        optimizer=node(Adam, 1e-3, schedule=node(Cosine)),
        init_from=(node(Restore, "runs/teacher", FROM_ONE_RUN),),
        **shared,
    )


configs = {
    "teacher": node(
        Experiment,
        augment=node(Views, crop),
        objective=node(SupCon, encoder, node(Mlp, (128, 128))),
        optimizer=node(Sgd, 0.1, schedule=node(Cosine)),
        **shared,
    ),
    f"{DISTORTION}-{LEVEL:g}": student_of(chosen),
    "all": student_of(anything),
}

# %% [markdown]
# While a student learns, two numbers tell how far it has come: the cosine of $s_i$ and
# $t_i$, and how often of the 256 teachers of a batch the own one is nearest.

# %%
from jax_rcl.report import log
from jax_rcl.train import train, trained

encoders = []
for name, config in configs.items():
    with capture_output():
        train(config, f"runs/{name}")
        encoders.append(trained(f"runs/{name}")[1])
    last = [line for line in log.read(f"runs/{name}") if "train/loss" in line][-1]
    print(f"{name:12} loss {last['train/loss']:.2f}", end="")
    if "train/found" in last:
        print(f", cosine {last['train/cosine']:.2f}", end="")
        print(f", own teacher found by {100 * last['train/found']:.0f} %", end="")
    print()
teacher, student, for_all = encoders

# %% [markdown]
# ## 4. Level by level
#
# Now labels are needed, for measuring. `LinearProbe` is logistic regression on frozen
# features, done in the same way for all encoders. Four classifiers:
#
# * **teacher**: its probe has seen clean images only;
# * **teacher, own probe**: the same features, but the probe has seen them of images
#   under the distortion that you chose. This is what one can do without a student;
# * **student**: likewise, on the features of the student;
# * **student for all**: its probe has seen all that its encoder has seen.
#
# `LevelSweep` takes a classifier through the levels of a distortion; the first point is
# the clean image. The vertical line marks what you chose.

# %%
from jax_rcl.evaluate import LevelSweep, LinearProbe


def probe_of(distortion):
    """Logistic regression on images distorted in this way, None for clean ones."""
    known = {"strengths": (1e-2,), "distortion": distortion}
    return LinearProbe(train_source, test_source, **known)


classifiers = {
    "teacher": (teacher, probe_of(None)),
    "teacher, own probe": (teacher, probe_of(chosen)),
    "student": (student, probe_of(chosen)),
    "student for all": (for_all, probe_of(anything)),
}
accuracy = {}
for name, (encode, probe) in classifiers.items():
    for kind, own in levels.items():
        with capture_output():
            found = LevelSweep(probe, ranges[kind], own, repeats=1).run(encode)
        # Of clean images, then level by level.
        shares = [share for key, share in found.items() if key.endswith("/top1")]
        accuracy[name, kind] = [100 * share for share in shares]

colours = dict(zip(classifiers, drawing.PALETTE, strict=False))


def curves(values, y):
    """A diagram for each distortion, a line for each name."""
    figure = drawing.figure(800, 300)
    places = figure.subplots(1, len(levels), sharey=True)
    for axes, (kind, own) in zip(places, levels.items(), strict=True):
        drawing.style(axes, title=kind)
        for name, colour in colours.items():
            if (name, kind) in values:
                line = {"color": colour, "marker": "o", "markersize": 4, "label": name}
                axes.plot(values[name, kind], **line)
        axes.set_xticks(range(1 + len(own)), ("clean", *(f"{x:g}" for x in own)))
        if kind == DISTORTION:
            line = {"color": drawing.TEXT, "linewidth": 1, "zorder": 1}
            axes.axvline(1 + own.index(LEVEL), **line)
    places[0].set_ylabel(y, color=drawing.TEXT)
    legend = {"frameon": False, "labelcolor": drawing.TEXT, "fontsize": 9}
    handles = places[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper left", ncols=4, **legend)
    return figure, places


curves(accuracy, "accuracy in %")[0]

# %%
where = 1 + levels[DISTORTION].index(LEVEL)
print(f"{'accuracy in %':20}{title:>12}{'clean':>8}")
for name in classifiers:
    found = accuracy[name, DISTORTION]
    print(f"{name:20}{found[where]:12.1f}{found[0]:8.1f}")

before = max(accuracy[name, DISTORTION][where] for name in list(classifiers)[:2])
clean = accuracy["teacher", DISTORTION][0]
for name in list(classifiers)[2:]:
    found = accuracy[name, DISTORTION]
    print(f"{name}: {found[where] - before:+.1f} points under {title} against", end=" ")
    print(f"the better teacher, {found[0] - clean:+.1f} on clean images")

# %% [markdown]
# What follows was seen with 90 % masked and the seed above; the standard error of an
# accuracy of 60 % is 1.5 % with 1,000 images. A probe of clean images can do nothing
# with masked ones. A probe of masked images gets a good deal out of the same features,
# at its level. The student has the best of the four there, and pays for it twice: with
# what it knew of clean images, and everywhere far from its level.
#
# The student for all is seldom the best at the level of another, but it is good at all
# of them, and on clean images close to its teacher. A student remembers what it is
# shown: put the clean image among the distortions, and it is kept.

# %% [markdown]
# ## 5. What is forgotten?
#
# The probe of a student has never seen a clean image, either. Is it the student that
# forgets, or its probe? We ask every encoder for the accuracy of three probes, on
# distorted and on clean images: one fitted under the distortion that you chose, one on
# clean images, and the one that was fitted on the *teacher's* features of clean images.
# The last one knows nothing of any student.

# %%
clean_probe, own_probe = probe_of(None), probe_of(chosen)


def right(probe, of, given):
    """Accuracy of a probe fitted on an encoder's features, for these features."""
    return 100 * (probe.scored(of, given).argmax(axis=1) == test_labels).mean()


print(f"{'':16}{title + ' images':>26}{'clean images':>30}")
print(f"{'probe of':16}" + 2 * f"{title:>12}{'clean':>7}{'teacher':>9}  ")
encoder_names = ("teacher", "student", "student for all")
for name, encode in zip(encoder_names, encoders, strict=True):
    row = f"{name:16}"
    for images in (seen, test_images):
        given = encode(images)["features"]
        row += f"{right(own_probe, encode, given):12.1f}"
        row += f"{right(clean_probe, encode, given):7.1f}"
        row += f"{right(clean_probe, teacher, given):9.1f}  "
    print(row)

# %% [markdown]
# With 90 % masked, mostly the probe. Fitted on clean images, a probe finds nearly as
# much in the features of the student as in those of the teacher. But they lie elsewhere
# now: the teacher's probe, which looks for them where the teacher had them, does not
# find them. Under the distortion it is the other way round. There the teacher's probe
# is of little use to the teacher, and of much to a student, whom it has never seen: the
# student puts the distorted image where the teacher puts the clean one. That is what
# the loss asks for, and why CLIP's text encoder can name what a student sees.

# %% [markdown]
# ## 6. What the student sees
#
# A feature vector cannot be looked at, but its neighbours can. The teacher has embedded
# all training images, clean. Which of them is nearest to what an encoder makes of a
# distorted image? First, for comparison, what the teacher finds for the clean one.

# %%
from jax_rcl.evaluate import features
from jax_rcl.losses import unit

known = unit(features.features(teacher, train_source)[0])


def nearest(encode, images):
    """Places of the training images with the largest cosine."""
    return np.asarray((unit(encode(images)["features"]) @ known.T).argmax(axis=1))


found = {
    "teacher, clean": nearest(teacher, test_images),
    "teacher": nearest(teacher, seen),
    "student": nearest(student, seen),
    "student for all": nearest(for_all, seen),
}
# Tops and dresses, trousers, shoes, bags.
kind_of = np.array([0, 1, 0, 0, 0, 2, 0, 2, 3, 2])
print(f"{'nearest, in %':16}{'same class':>12}{'same kind':>12}")
for name, places in found.items():
    own, theirs = test_labels, train_labels[places]
    shares = (own == theirs).mean(), (kind_of[own] == kind_of[theirs]).mean()
    print(f"{name:16}" + "".join(f"{100 * share:12.1f}" for share in shares))
rows = {name: train_images[places[some]] for name, places in found.items()}
show({"clean": test_images[some], title: seen[some], **rows})

# %% [markdown]
# With 90 % masked, 79 of 784 pixels are left. To the teacher most of that is sandals:
# a few bright lines on black. The students find clothes of about the right outline and
# brightness. Where the class is wrong, the kind is often right: a shoe for a shoe.

# %% [markdown]
# ## 7. How near is the student?
#
# The loss asked for one thing: that $s_i$ points where $t_i$ does. Cosines of what an
# encoder makes of distorted test images with what the teacher makes of them clean, by
# level. The dashed line is the teacher's cosine of two different clean images: who is
# there has lost the image.

# %%
few = test_images[:256]
target = unit(teacher(few)["features"])
cosine = {}
for name, encode in zip(encoder_names, encoders, strict=True):
    for kind, own in levels.items():
        versions = [few, *(distorted(kind, level, few) for level in own)]
        made = [unit(encode(images)["features"]) for images in versions]
        cosine[name, kind] = [
            float((each * target).sum(axis=1).mean()) for each in made
        ]
between_images = float((target * jnp.roll(target, 1, axis=0)).sum(axis=1).mean())

figure, places = curves(cosine, "cosine with the teacher, clean")
for axes in places:
    axes.axhline(between_images, color=drawing.TEXT, linestyle="--", linewidth=1)
figure

# %% [markdown]
# The teacher has the cosine 1 on clean images, and falls. The student has its best
# place at its own level and falls to both sides, also towards the clean image: it has
# learned to expect black pixels. The student for all gives up a little on clean images,
# and soon is nearer to the clean teacher than the teacher is itself.

# %% [markdown]
# ## 8. With CLIP itself
#
# There the teacher is CLIP's image encoder and the images are ImageNet-100, which needs
# an accelerator. A student, a probe of it and one of CLIP as it is, both under the
# student's distortion, and the two beside each other at every level. `RN101.pt` is the
# file that OpenAI publishes.
#
# ```
# git clone https://github.com/jax-rcl/jax_rcl && cd jax_rcl
# jax-rcl prepare imagenet100 --imagenet=/data/imagenet \
#     --out=data/imagenet100
# python -m jax_rcl.main --workdir=runs/student \
#     --config=configs/clip_student.py:clip=RN101.pt,distortion=mask90
# python -m jax_rcl.main --workdir=runs/student_probe \
#     --config=configs/clip_probe.py:source=runs/student
# python -m jax_rcl.main --workdir=runs/clip_probe \
#     --config=configs/clip_probe.py:clip=RN101.pt,distortion=mask90
# jax-rcl compare --runs student=runs/student_probe --runs CLIP=runs/clip_probe \
#     --out=runs/sweeps
# ```
#
# For 90 % masked the authors report 83.0 % for the student's probe, 79.9 % with a tenth
# of the labels (`labels=0.1`), 62.3 % by CLIP's text encoder without any, and 12.3 %
# for CLIP as it is. A classifier of CLIP's clean features reads the student at 78.1 %
# under the mask, and at 3.7 % on clean images. `distortion=all` trains one student for
# all. `docs/inverse_problems.md` has the command of every experiment, and all numbers
# of the authors.

# %% [markdown]
# ## 9. What to do next
#
# * Pick another distortion. A student of a weak one has less to gain, and less to lose.
# * Change something: `loss_type` of `Distill`, which knows six; the bounds in `ranges`;
#   `node(Pair, crop, chosen, node(Curriculum, EPOCHS))` of `rcl.augment`, under which
#   the level rises slowly. A workdir holds one run, so give each its own.
# * Open `runs/all/report/index.html`: curves, facts and the whole config of a run.
# * Train the whole table on Fashion-MNIST, three seeds, with classifiers that were
#   trained with labels on distorted images from end to end:
#
#   ```
#   jax-rcl table --table=configs/tables/distill_fashion.py \
#       --workdir=runs/distill_fashion
#   ```
