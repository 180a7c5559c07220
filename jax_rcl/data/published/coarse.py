"""Coarse classes made of fine ones: CIFAR's, MNIST's, Tiny ImageNet's.

Train on the coarse labels, `coarsened(source, CIFAR10)`, in a config
`node(Relabel, source, **vars(CIFAR10))`; ask the encoder for the fine ones later. The
maps are those of Fu et al. 2022 (https://arxiv.org/abs/2204.07596) and their code;
Fashion-MNIST's is ours.
"""

import dataclasses
from collections.abc import Mapping

from jax_rcl.core import Source
from jax_rcl.data.folders import in_short


@dataclasses.dataclass(frozen=True)
class CoarseMap:
    """Which coarse class each fine class belongs to; not all of them need occur."""

    name: str  # what errors call it
    mapping: tuple[int, ...]  # the coarse class of each fine one
    class_names: tuple[str, ...]  # of the coarse ones

    def __post_init__(self) -> None:
        k = len(self.class_names)
        for fine, coarse in enumerate(self.mapping):
            if not 0 <= coarse < k:
                raise ValueError(
                    f"the map {self.name!r} turns label {fine} into {coarse}; new "
                    f"labels must be in [0, {k}), as there are {k} class_names."
                )

    @classmethod
    def of_members(
        cls, name: str, members: Mapping[str, tuple[int, ...]]
    ) -> "CoarseMap":
        """The map that gives each coarse class, by name, the fine classes listed."""
        listed = sorted(fine for some in members.values() for fine in some)
        if listed != list(range(len(listed))):
            raise ValueError(
                f"the map {name!r} lists the fine classes {listed}; list each from 0 "
                f"to the last once."
            )
        names = tuple(members)
        of = {fine: i for i, coarse in enumerate(names) for fine in members[coarse]}
        return cls(name, tuple(of[fine] for fine in listed), names)

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The fine classes of each coarse one, ascending."""
        return tuple(
            tuple(fine for fine, of in enumerate(self.mapping) if of == coarse)
            for coarse in range(len(self.class_names))
        )

    def check(self, source: Source) -> None:
        """Raises ValueError unless the map fits the classes that a source names."""
        names, count = source.class_names, len(self.mapping)
        if names and count != len(names):
            left = [f"{fine} {name!r}" for fine, name in enumerate(names)][count:]
            hint = (
                f"append to `mapping` a number in [0, {len(self.class_names)}) for "
                f"{in_short(left, len(names), 'classes')}"
            )
            raise ValueError(
                f"the map {self.name!r} has {count} entries for the {len(names)} "
                f"classes of {source!r}; {hint if left else 'take another map'}."
            )


# The released code names vehicles and animals in the opposite order of their ids.
CIFAR10 = CoarseMap.of_members(
    "cifar10", {"animals": (2, 3, 4, 5, 6, 7), "vehicles": (0, 1, 8, 9)}
)

CIFAR100 = CoarseMap.of_members(
    "cifar100",
    {
        "aquatic_mammals": (4, 30, 55, 72, 95),
        "fish": (1, 32, 67, 73, 91),
        "flowers": (54, 62, 70, 82, 92),
        "food_containers": (9, 10, 16, 28, 61),
        "fruit_and_vegetables": (0, 51, 53, 57, 83),
        "household_electrical_devices": (22, 39, 40, 86, 87),
        "household_furniture": (5, 20, 25, 84, 94),
        "insects": (6, 7, 14, 18, 24),
        "large_carnivores": (3, 42, 43, 88, 97),
        "large_man-made_outdoor_things": (12, 17, 37, 68, 76),
        "large_natural_outdoor_scenes": (23, 33, 49, 60, 71),
        "large_omnivores_and_herbivores": (15, 19, 21, 31, 38),
        "medium_mammals": (34, 63, 64, 66, 75),
        "non-insect_invertebrates": (26, 45, 77, 79, 99),
        "people": (2, 11, 35, 46, 98),
        "reptiles": (27, 29, 44, 78, 93),
        "small_mammals": (36, 50, 65, 74, 80),
        "trees": (47, 52, 56, 59, 96),
        "vehicles_1": (8, 13, 48, 58, 90),
        "vehicles_2": (41, 69, 81, 85, 89),
    },
)
"""CIFAR-100's own 20 superclasses, as `Cifar(100, labels="coarse")` reads them."""

MNIST = CoarseMap.of_members(
    "mnist", {"0 to 4": (0, 1, 2, 3, 4), "5 to 9": (5, 6, 7, 8, 9)}
)

FASHION_MNIST = CoarseMap.of_members(
    "fashion-mnist", {"clothes": (0, 1, 2, 3, 4, 6), "shoes and bags": (5, 7, 8, 9)}
)

_TINY_IMAGENET = """
14 31 16 16  8 34 35  0  0  0  4  3 22 14  7 23 23 23  9  9  3  3  3 21 11 11 11 11
11 11  6  6  6 39 39  2  4  4  4  4  4  4  4  4  5  5 12 30 19 37 37 37 37 37 28 28
28 37  2 61 46 53 46 41 53 45 45 47 43 53 65 45 56 52 46 62 58 41 49 62 62 64 45 62
66 46 61 50 62 47 49 45 50 45 65 65 58 53 53 55 62 58 58 64 48 46 41 65 44 61 50 65
46 49 65 44 65 62 58 46 46 65 62 41 45 55 55 50 50 51 47 62 60 65 46 52 62 66 60 61
53 50 53 43 46 65 60 61 60 46 54 50 58 65 58 50 46 58 46 62 48 63 45 62 65 58 65 61
41 46 58 43 47 58 48 48 59 48 52 52 52 52 52 38 38 18 17 17 17 17 52 52 52 52 58 58
 7 58 58 27
"""

TINY_IMAGENET = CoarseMap(
    "tiny-imagenet",
    tuple(map(int, _TINY_IMAGENET.split())),
    tuple(f"superclass {coarse}" for coarse in range(67)),
)
"""Of the 200 classes, sorted by WordNet id; 52 of the 67 superclasses occur."""
