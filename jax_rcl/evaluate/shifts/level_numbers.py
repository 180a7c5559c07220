"""Numbers of a level sweep: shares at every level, over repeats, and their names."""

import dataclasses
import math
import statistics

import numpy as np
from jaxtyping import Float, Float32, Int32

from jax_rcl.artifacts import Curves
from jax_rcl.augment.distortions.levels import Level

CLEAN = "clean"
"""The name of images that are not distorted."""


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """Results for clean images and at every level.

    Attributes:
      clean: shares by their kind, such as `top1`.
      cells: by kind, the share at every level and repeat.
      shown: the first images as the encoder saw them: clean, then level by level.
      labels: the class of each of these.
    """

    clean: dict[str, float]
    levels: tuple[Level, ...]
    cells: dict[str, Float[np.ndarray, "l repeats"]]
    shown: Float32[np.ndarray, "r m h w c"]
    labels: Int32[np.ndarray, " m"]

    @property
    def level_names(self) -> tuple[str, ...]:
        return tuple(map(level_name, self.levels))

    def numbers(self) -> dict[str, float]:
        """`clean/<kind>`, `<level>/<kind>`; beyond one repeat its std and stderr."""
        found = {f"{CLEAN}/{kind}": share for kind, share in self.clean.items()}
        for place, level in enumerate(self.level_names):
            for kind, cells in self.cells.items():
                # Sums without rounding: what is the same every time deviates by 0.
                shares, name = cells[place].tolist(), f"{level}/{kind}"
                found[name] = statistics.fmean(shares)
                if len(shares) > 1:
                    deviation = statistics.stdev(shares)
                    found[f"{name}_std"] = deviation
                    found[f"{name}_stderr"] = deviation / math.sqrt(len(shares))
        return found

    def curves(self, axis: str, method: str) -> Curves:
        """A line over the levels for each kind."""
        numbers = self.numbers()

        def table(suffix: str) -> Float[np.ndarray, "r l"]:
            rows = [
                [numbers.get(f"{level}/{kind}{suffix}") for level in self.level_names]
                for kind in self.cells
            ]
            return np.array(rows, np.float64)  # NaN for None

        return Curves(
            places=places_of(self.levels),
            level_names=self.level_names,
            means=table(""),
            deviations=table("_std"),
            references=np.array(list(self.clean.values())),
            line_names=tuple(self.cells),
            axis=axis,
            method=method,
        )


def level_name(level: Level) -> str:
    """A level as it is called in numbers: 0.9 is `0.9`, and (21, 5.0) is `21x5`."""
    several = level if isinstance(level, tuple) else (level,)
    shortest = [np.format_float_positional(np.float32(x), trim="-") for x in several]
    return "x".join(shortest)


def places_of(levels: tuple[Level, ...]) -> Float[np.ndarray, " l"] | None:
    """Where levels are on an axis; None if some are of several numbers."""
    if any(isinstance(level, tuple) and len(level) > 1 for level in levels):
        return None
    return np.array([np.ravel(level)[0] for level in levels], np.float64)
