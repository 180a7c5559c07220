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
# # Thanos in ten minutes
#
# An encoder is trained on coarse labels. What does it still know of the fine ones? We
# look at a loss that forgets them, at two that do not, and at *Thanos* (Chen, Fu et al.
# 2022, [Perfectly Balanced](https://arxiv.org/abs/2204.07596)), which takes both.
# Everything runs on a CPU in a few minutes. How a run works, and a config, is told more
# slowly in `supcon.ipynb`.

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
from IPython.utils.capture import capture_output

# Passes over the data in each of the seven runs below.
EPOCHS = int(os.environ.get("EPOCHS", 15))

# %% [markdown]
# ## 2. Two classes that are ten
#
# The data are scikit-learn's handwritten digits, gray, 8x8 pixels. The encoder is told
# only whether a digit is below five: two coarse classes, of five fine ones each. A
# coarse map names them; `coarsened` puts it on a source, whose images stay as they are.

# %%
from jax_rcl.data import Digits, coarsened
from jax_rcl.data.published import coarse as coarse_maps

fine = Digits("train")
coarse = coarsened(fine, coarse_maps.MNIST)
print("fine  ", " ".join(fine.class_names))
print(
    "coarse",
    " ".join(str(k) for k in coarse_maps.MNIST.mapping),
    "of",
    coarse.class_names,
)

# %%
from jax_rcl.augment import Chain, RandomResizedCrop, Views, unit_range
from jax_rcl.report.figures import plots

augment = Views(Chain((RandomResizedCrop(8, area=(0.5, 1.0)),)))
images = np.stack([coarse[i]["image"] for i in range(12)])
labels = np.stack([coarse[i]["label"] for i in range(12)])
keys = jax.random.split(jax.random.key(0), len(images))
views = jax.jit(jax.vmap(augment.of_one))(keys, unit_range(images))
plots.views(np.asarray(views), labels, coarse.class_names)

# %% [markdown]
# This is all that the encoder sees: random views of an image, and its coarse class.

# %% [markdown]
# ## 3. The loss, without a network
#
# Let $z_i$ and $z'_i$ be unit vectors, the embeddings of two views of image $i$. $P(i)$
# are the images of its class, itself among them, $N(i)$ all others, and
# $s_{ij} = z_i \cdot z'_j / \tau$. The loss has two parts (Fu et al. 2022). One pulls
# the class together, and away from the others; that is SupCon. The other one tells the
# images of one class from each other: a *class-conditional InfoNCE*.
#
# $$
# \mathrm{attract}_i = \frac{1}{|P(i)|} \sum_{p \in P(i)} \log
#   \frac{e^{s_{ip}} + \sum_{n \in N(i)} e^{s_{in}}}{e^{s_{ip}}}, \qquad
# \mathrm{repel}_i = \log \frac{\sum_{p \in P(i)} e^{s_{ip}}}{e^{s_{ii}}}
# $$
#
# Their mean is the loss; `attraction` and `spread` are the weights. The code that the
# authors released has a third form: what a positive counts in the numerator ends at
# $s_{ip} = 1$. It is the option `logit_clip`.

# %%
from jax_rcl.objectives import Contrast

terms = {
    "SupCon": Contrast(spread=0.0),
    "with spread": Contrast(spread=1.0),
    "SupCon, released": Contrast(spread=0.0, logit_clip=1.0),
}

# %% [markdown]
# A term is a function of two views and labels. We take 16 points in 16 dimensions: 2
# classes of 8 images, both views of an image the same. Gradient descent, with smaller
# and smaller steps, moves the points over the sphere.

# %%
count, dimensions = 8, 16
class_of = jnp.repeat(jnp.arange(2), count)


def unit(points):
    return points / jnp.linalg.norm(points, axis=1, keepdims=True)


def descend(term, points, steps=3000, rate=0.5):
    """Points and loss at every step of gradient descent on the sphere."""

    def loss(points):
        return term(points, points, class_of).mean()

    def step(points, progress):
        value, slope = jax.value_and_grad(loss)(points)
        moved = unit(points - rate * (1 - progress) * slope)
        return moved, (points, value)

    progress = jnp.arange(steps) / steps
    return jax.jit(lambda x: jax.lax.scan(step, x, progress)[1])(points)


start = unit(jax.random.normal(jax.random.key(1), (2 * count, dimensions)))
paths = {name: descend(term, start) for name, term in terms.items()}

# %% [markdown]
# Seen from the side: to the right the direction from one class mean to the other,
# upwards the direction in which the points differed most, otherwise, at the start. The
# circle is the sphere's outline, lines are the ways of the points, colours are classes.

# %%
from jax_rcl.report.figures import drawing

figure = drawing.figure(800, 300)
for axes, (name, (points, values)) in zip(
    figure.subplots(1, 3), paths.items(), strict=True
):
    drawing.style(axes, title=f"{name}: {values[0]:.2f} → {values[-1]:.2f}")
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
    axes.set_axis_off()
    around = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(around), np.sin(around), color=drawing.LINE, linewidth=1)
    end = points[-1]
    across = end[class_of == 1].mean(axis=0) - end[class_of == 0].mean(axis=0)
    across /= jnp.linalg.norm(across)
    rest = start - jnp.outer(start @ across, across)
    plane = jnp.stack([across, jnp.linalg.svd(rest)[2][0]])
    for way, k in zip((points @ plane.T).swapaxes(0, 1), class_of, strict=True):
        colour = {"color": drawing.PALETTE[k], "alpha": 0.7}
        axes.plot(*way.T, linewidth=0.7, **colour)
        axes.plot(*way[-1], "o", markersize=7, **colour)
figure

# %% [markdown]
# SupCon draws each class together into one point: class collapse. With the second term
# the classes are still apart, but the images of each keep their distance. So they do
# with the released form, whose pull ends before all is one.
#
# How far does a class spread? Where all images of a class have the same distance from
# each other, one number says it all: the length $r$ of the class mean. Two images of a
# class then have the cosine $r^2 - (1 - r^2)/7$, two of different classes $-r^2$. Put
# into the loss, that is a curve over $r$, and gradient descent should end at its lowest
# point.


# %%
def at(term, r):
    """The loss where both class means have length r and all images are alike in it."""
    same = jnp.full(count, r**2 - (1 - r**2) / (count - 1)).at[0].set(1.0)
    s = same / term.temperature
    others = jnp.log(count * jnp.exp(-(r**2) / term.temperature))
    limit = jnp.inf if term.logit_clip is None else term.logit_clip
    attract = (jnp.logaddexp(s, others) - jnp.minimum(s, limit)).mean()
    repel = jax.nn.logsumexp(s) - s[0]
    if term.spread == 0:
        return attract
    return (attract + term.spread * repel) / (1 + term.spread)


lengths = jnp.linspace(0, 1, 1001)
figure = drawing.figure(800, 300)
axes = figure.subplots()
drawing.style(axes, x="length r of the class means", y="loss")
for (name, term), colour in zip(terms.items(), drawing.PALETTE, strict=False):
    points, values = paths[name]
    curve = jax.vmap(lambda r, term=term: at(term, r))(lengths)
    best = int(curve.argmin())
    means = [points[-1][class_of == k].mean(axis=0) for k in (0, 1)]
    reached = float(np.mean([jnp.linalg.norm(mean) for mean in means]))
    axes.plot(lengths, curve, color=colour, label=name)
    axes.plot(reached, values[-1], "o", markersize=7, color=colour)
    print(f"{name:20}loss {values[-1]:.4f}, expected {curve[best]:.4f};", end="   ")
    print(f"r {reached:.3f}, expected {lengths[best]:.3f}")
axes.legend(loc="upper right", frameon=False, labelcolor=drawing.TEXT)
figure

# %% [markdown]
# Curves are the formula, dots what gradient descent found. SupCon falls up to the very
# end, $r = 1$. The released form has its lowest point at a kink, where the cosine of a
# class is $\tau$: its spread is the work of the clip.
#
# Spread alone says nothing of the fine classes, though: exchange two images of the same
# class, and none of these losses changes. What puts a 3 next to other threes must come
# from elsewhere: from the network and the views, or from a decoder that has to make the
# image again.

# %% [markdown]
# ## 4. Train on coarse labels
#
# The objective `Spread` is a sum of any of three terms: cross-entropy of a linear head,
# contrast, and reconstruction. Three runs, with the same network and optimizer:
#
# * **SupCon**: cross-entropy and attraction.
# * **InfoNCE**: the same with spread, the class-conditional InfoNCE.
# * **autoencoder**: cross-entropy, and a decoder that makes each view again from its
#   features; the paper's class-conditional autoencoder.
#
# Each is asked for its coarse accuracy on the test images. The fine labels are used to
# look at the result only (`Geometry`, below).

# %%
from jax_rcl.config import Experiment, differences, node
from jax_rcl.data import Relabel
from jax_rcl.evaluate import AtEnd, Geometry, HeadAccuracy, Reconstructions
from jax_rcl.networks import Linear, Normalized, ResNet, ResNetDecoder
from jax_rcl.objectives import Reconstruction, Spread
from jax_rcl.optim import AdamW, Cosine

train_set, test_set = node(Digits, "train"), node(Digits, "test")
statistics = {"mean": (0.3,), "std": (0.37,)}
encoder = node(Normalized, node(ResNet, depth=10, width=16, stem="small"), **statistics)
view = node(Chain, (node(RandomResizedCrop, 8, area=(0.5, 1.0)),))


def on_coarse_labels(contrasts=(), reconstruction=None):
    """A narrow ResNet-10 on digits below five and from five on."""
    coarse_train, coarse_test = (
        node(Relabel, source, **vars(coarse_maps.MNIST))
        for source in (train_set, test_set)
    )
    geometry = node(
        Geometry,
        test_set,
        coarse=coarse_maps.MNIST.mapping,
        coarse_names=coarse_maps.MNIST.class_names,
        terms={"contrast": node(Contrast)},
        reconstruction="reconstruction" if reconstruction else None,
    )
    evaluators = {
        "coarse": node(HeadAccuracy, coarse_test, when=node(AtEnd)),
        "geometry": geometry,
    }
    if reconstruction:
        evaluators["decoded"] = node(Reconstructions, test_set, count=10)
    return node(
        Experiment,
        source=coarse_train,
        augment=node(Views, view),
        objective=node(
            Spread,
            encoder,
            head=node(Linear, 2),
            contrasts=contrasts,
            reconstruction=reconstruction,
        ),
        optimizer=node(AdamW, 1e-3, schedule=node(Cosine, warmup_epochs=1.0)),
        batch_size=64,
        epochs=EPOCHS,
        evaluators=evaluators,
        log_every=5,
    )


decoder = node(ResNetDecoder, 8, channels=1, width=8)
configs = {
    "SupCon": on_coarse_labels(contrasts=(node(Contrast, spread=0.0),)),
    "InfoNCE": on_coarse_labels(contrasts=(node(Contrast, spread=1.0),)),
    "autoencoder": on_coarse_labels(
        reconstruction=node(Reconstruction, decoder, **statistics)
    ),
}
print("\n".join(differences(configs["SupCon"], configs["InfoNCE"])))

# %% [markdown]
# One number differs. `train` prints a good deal about a run; here we keep it for the
# report page of each workdir, `runs/SupCon/report/index.html`.

# %%
from jax_rcl.train import train

numbers = {}
for name, config in configs.items():
    with capture_output():
        numbers[name] = train(config, f"runs/{name}")
    print(f"{name:12} coarse accuracy {100 * numbers[name]['coarse/top1']:5.1f} %")

# %% [markdown]
# All three learn what they are told. What have they kept of the rest?

# %% [markdown]
# ## 5. Transfer to fine labels
#
# Now the encoder is frozen, and a linear head learns the ten digits from its features.
# `Restore` takes the encoder out of the workdir of a finished run; `encoder_paths` says
# where it lies there, and where it goes. **Thanos** is the head on two frozen encoders,
# whose features stand side by side (`Concatenated`): the one that spreads its classes,
# and the one that can tell what it saw.
#
# `LinearProbe` asks the same without training by steps: logistic regression on features
# of unchanged images, which are computed once.

# %%
from jax_rcl.evaluate import LinearProbe
from jax_rcl.networks import Concatenated
from jax_rcl.objectives import Classify, encoder_paths
from jax_rcl.weights import Restore


def on_fine_labels(*workdirs):
    """A linear head on the frozen encoders of these runs."""
    names = tuple(f"part{place}" for place in range(1, len(workdirs) + 1))
    rules = [
        node(Restore, workdir, encoder_paths("frozen", place=name))
        for workdir, name in zip(workdirs, names, strict=True)
    ]
    return node(
        Experiment,
        source=train_set,
        augment=node(Views, view, count=1),
        objective=node(
            Classify,
            node(Concatenated, (encoder,) * len(workdirs), names),
            head=node(Linear, 10),
            encoder_is="frozen",
        ),
        optimizer=node(AdamW, 1e-2, schedule=node(Cosine)),
        batch_size=64,
        epochs=EPOCHS,
        init_from=tuple(rules),
        evaluators={
            "head": node(HeadAccuracy, test_set, when=node(AtEnd)),
            "probe": node(LinearProbe, train_set, test_set, strengths=(1e-2,)),
        },
        log_every=5,
    )


sources = {name: (f"runs/{name}",) for name in configs}
sources["Thanos"] = ("runs/InfoNCE", "runs/autoencoder")
print(f"{'fine test accuracy in %':26}{'linear head':>12}{'linear probe':>14}")
for name, workdirs in sources.items():
    with capture_output():
        found = train(on_fine_labels(*workdirs), f"runs/{name}-fine")
    print(f"{name:26}{100 * found['head/top1']:12.1f}{100 * found['probe/top1']:14.1f}")

# %% [markdown]
# SupCon is last by far: it was told of two classes, and its features are little more
# than two points. Either remedy gives most of the ten digits back. Which of the last
# three is best cannot be said: the test set has 359 images, and the standard error of
# an accuracy of 93 % is 1.3 %. On CIFAR-10 the authors report 51.8 for SupCon, 71.7 for
# the autoencoder, 77.1 for InfoNCE and 79.1 for Thanos.
#
# The probe gets more out of SupCon than the head does. It divides every feature by its
# standard deviation first, so that small differences count as much as large ones, and
# after so few epochs there still are small ones: collapse is where training goes, not
# where it is.

# %% [markdown]
# ## 6. Geometry
#
# `Geometry` looks at the features of the test images, divided by their length, under
# labels of both levels. Of its numbers, which are in `numbers` already:
#
# * **cosine** of two images of the same coarse class; 1 when classes collapse;
# * **spread**, the mean squared distance from the mean of the coarse class; 0 then;
# * **share** of that spread which lies between the digits of a class, and not between
#   images of one digit; 1 if every digit were one point;
# * **rank**, over how many directions the spread of a class is shared out.

# %%
asked = {
    "cosine": "within_class_cosine",
    "spread": "within_class_spread",
    "share": "subclass_share",
    "rank": "effective_rank",
}
print(f"{'':12}" + "".join(f"{title:>9}" for title in asked))
for name, found in numbers.items():
    row = [found[f"geometry/{key}"] for key in asked.values()]
    print(f"{name:12}" + "".join(f"{value:9.2f}" for value in row))

# %% [markdown]
# SupCon has all but collapsed. What spread is left lies hardly between digits. The two
# others keep several times as much. With InfoNCE most of it lies between digits, which
# the loss did not ask for: similar images have similar features. The rank alone is no
# merit: it says over how many directions a spread is shared out, not how large it is,
# nor what it is good for.

# %%
from jax_rcl.train import trained

encoders, findings = {}, {}
for name in configs:
    run, encode = trained(f"runs/{name}")
    encoders[name] = encode
    findings[name] = run.experiment.evaluators["geometry"].findings(encode)

for name, found in findings.items():
    caption, figure = plots.draw(found["class plane"])
    print(f"{name}: {caption}")
    display(figure)

# %% [markdown]
# With SupCon the digits of a class lie on top of each other; with the others they come
# apart. A plane shows two directions of many, and the first one tells the classes
# apart: a class that is small here may be wide elsewhere. So we ask each class, and
# each digit, for its spread.

# %%
for name in ("SupCon", "InfoNCE"):
    caption, figure = plots.draw(findings[name]["spread"])
    print(f"{name}: {caption}")
    display(figure)

# %% [markdown]
# Mind the scales. With SupCon dots lie on both sides of the lines: a digit is no
# tighter than its class. With InfoNCE they lie on the left: digits are clouds of their
# own.
#
# And the autoencoder? Its decoder reads the features, and nothing else.

# %%
decoded = run.experiment.evaluators["decoded"]
for finding in decoded.findings(encoders["autoencoder"]).values():
    caption, figure = plots.draw(finding)
    print(caption)
    display(figure)

# %% [markdown]
# Blurred, but the strokes are about where they were. Now let the images of each coarse
# class change places, while the features stay where they are. What does each loss gain?
# The contrast cannot notice, up to rounding. The decoder does: it ties the place of an
# image to what is on it, which spread alone does not.

# %%
found = numbers["autoencoder"]
for name in ("contrast", "reconstruction"):
    print(f"{name:16}{found[f'geometry/permutation_gap_{name}']:9.1e}")

# %% [markdown]
# ## 7. What to do next
#
# * Ask for more: `configs["InfoNCE"].objective.contrasts[0].spread = 3.0`, other coarse
#   classes (`coarse.CoarseMap.of_members`), or both encoders trained jointly
#   (`Spread(encoder_auto=...)`). A workdir holds one run, so give each its own.
# * Use the command line. The two stages are two files of `configs/`; `docs/thanos.md`
#   has the command of every experiment of the authors:
#
#   ```
#   git clone https://github.com/jax-rcl/jax_rcl && cd jax_rcl
#   python -m jax_rcl.main --config=configs/thanos_coarse.py:method=spread \
#       --workdir=runs/spread
#   python -m jax_rcl.main --config=configs/thanos_coarse.py:method=ce,decoder=color \
#       --workdir=runs/auto
#   python -m jax_rcl.main --workdir=runs/thanos \
#       --config=configs/thanos_transfer.py:first=runs/spread,second=runs/auto
#   ```
#
# * Train the whole table, on Fashion-MNIST with three seeds, in an hour on two cores:
#
#   ```
#   jax-rcl table --table=configs/tables/thanos_fashion.py \
#       --workdir=runs/thanos_fashion
#   ```
