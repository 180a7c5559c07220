"""Distortions of Fashion-MNIST and classifiers of it, as of Ravula et al. 2021."""

import jax_rcl as rcl
from jax_rcl import node
from jax_rcl.augment import GaussianBlur, GaussianNoise, Identity, OneOf, RandomMask
from jax_rcl.config import same

MASK, NOISE = RandomMask((0.25, 0.95)), GaussianNoise((0.1, 0.75))
BLUR = GaussianBlur(27, (1.0, 6.0))
LEVELS = {
    "mask50": RandomMask((0.5, 0.5)),
    "mask75": RandomMask((0.75, 0.75)),
    "mask90": RandomMask((0.9, 0.9)),
    "noise": GaussianNoise((0.5, 0.5)),
    "blur": GaussianBlur(27, (4.0, 4.0)),
}
# Of the option `distortion`; all: every one at every level, the clean image among them.
DISTORTIONS = {
    **LEVELS,
    "all": OneOf((Identity(), MASK, NOISE, BLUR)),
    "none": Identity(),
}
SWEEPS = {
    "mask": (MASK, (0.5, 0.75, 0.9, 0.95)),
    "noise": (NOISE, (0.25, 0.5, 0.75)),
    "blur": (BLUR, (2.0, 4.0, 6.0)),
}


def classifiers(o, train, test, home):
    """A classifier of images distorted as in training, and at every level.

    What distorts them there is at the place `home` of the config.

    A teacher has a probe of clean images, and one of each distortion; a student a probe
    of what it saw; the others have their head.
    """

    def probe(**distorted):
        fields = {"strengths": (1e-2,), "mapped": 500, **distorted}
        return node(rcl.evaluate.LinearProbe, train, test, **fields)

    if o.method == "teacher":
        others = {name: probe(distortion=each) for name, each in LEVELS.items()}
        return {"test": probe(), **others, **level_sweeps(probe(), SWEEPS)}
    distortion = same(home)
    if o.method == "student":
        judge = probe(distortion=distortion)
    else:
        fields = {"mapped": 500, "when": node(rcl.evaluate.AtEnd)}
        judge = node(rcl.evaluate.HeadAccuracy, test, distortion=distortion, **fields)
    kinds = [kind for kind in SWEEPS if o.distortion.startswith(kind)]
    return {"test": judge, **level_sweeps(judge, kinds or SWEEPS)}


def level_sweeps(judge, kinds):
    """The accuracy at some levels, for each of `kinds` of distortions."""
    return {
        f"{kind}s": node(rcl.evaluate.LevelSweep, judge, *SWEEPS[kind], repeats=1)
        for kind in kinds
    }
