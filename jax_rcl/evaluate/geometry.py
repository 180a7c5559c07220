"""How classes and their subclasses lie in the space of features: numbers, pictures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jax_rcl import parallel
from jax_rcl.artifacts import ClassPlane, Finding, MeanCosines, Spectra, Spreads
from jax_rcl.core import Encode, Operation, Source
from jax_rcl.evaluate import exchange, geometry_numbers
from jax_rcl.evaluate.exchange import Terms
from jax_rcl.evaluate.features import LayerEvaluator, once, shared_classes
from jax_rcl.evaluate.findings import MOST_POINTS, principal_axes
from jax_rcl.evaluate.geometry_numbers import Strata, strata, unit
from jax_rcl.evaluate.reconstructions import reconstruct_rows
from jax_rcl.ranges import Count, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class Geometry(LayerEvaluator):
    """Collapse, spread, simplex, subclasses: where a coarse training put its images.

    The source has fine labels; `coarse` says which class each of them, a subclass,
    belongs to. The numbers are those of `geometry_numbers`, where formulas and values
    at collapse are, of the features in unit length, by the questions of Thanos:

      Q1   within_class_cosine, between_class_cosine
      Q2   within_class_spread
      Q3   class_uniformity
      Q5   simplex_deviation, simplex_deviation_max, class_radius_variation
      Q6   within_over_total, collapse_ratio
      Q7   subclass_share
      Q8   subclass_distance_within, subclass_distance_between, size_spread_correlation
      Q9   nearest_subclass_accuracy, cluster_purity, cluster_nmi, cluster_ari
      Q12  effective_rank, largest_singular_value

    and of `sample` images drawn by `seed`:

      Q4   alignment, mean ‖z' - z''‖² of two random views of an image (with `views`)
      Q10  permutation_gap_<term>: what the mean of a loss gains when the pairs of
           embeddings are exchanged by one random cycle through the images of each
           class: 0 up to rounding for a loss that cannot tell subclasses, such as every
           contrastive one of coarse labels. permutation_gap_reconstruction: what the
           squared error of pixels in [0, 1] gains when each image is compared with what
           the decoder makes of another one of its class: 0 when classes collapse.

    Attributes:
      train: whose subclass means the images are compared with in Q9; None for the
        source's own, each image left out of its mean.
      terms: losses of coarse labels for Q10, given `layer` as it is; by name, or as the
        contrasts of an objective.
      views: makes a random view of an image in [0, 1], instead of `preprocess`, for Q4
        and the two arguments of the terms; None for no Q4, and the same features twice.
      reconstruction: layer of decoded images for Q10, or None.
      sample: images for Q4 and Q10, at most.
    """

    source: Source
    coarse: tuple[int, ...]
    coarse_names: tuple[str, ...]
    _: dataclasses.KW_ONLY
    train: Source | None = None
    # Not hashed, since mappings cannot be; compared all the same.
    terms: Terms = dataclasses.field(default_factory=dict, hash=False)
    views: Operation | None = None
    reconstruction: str | None = None
    sample: Count = 512
    seed: int = 0

    def __post_init__(self) -> None:
        k = len(self.coarse_names)
        for fine, coarse in enumerate(self.coarse):
            if not 0 <= coarse < k:
                raise ValueError(
                    f"Geometry.coarse puts fine label {fine} into class {coarse}; "
                    f"classes must be in [0, {k}), as there are {k} coarse_names."
                )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.layer, self.reconstruction or self.layer})

    @property
    def protocol(self) -> str:
        means = (
            "the other images" if self.train is None else f"{len(self.train)} others"
        )
        return (
            f"unit {self.layer!r} of {len(self.source)} images of {len(self.coarse)} "
            f"subclasses in {len(self.coarse_names)} classes, subclass means of {means}"
        )

    def check(self) -> None:
        """Compares the map with the source, and calls the terms on shapes."""
        names = self.source.class_names
        if len(names) != len(self.coarse):
            missing = ", ".join(map(repr, names[len(self.coarse) :][:10]))
            raise ValueError(
                f"Geometry.coarse has {len(self.coarse)} entries, but {self.source} "
                f"has {len(names)} fine classes"
                + (f"; it does not cover {missing}" if missing else "")
                + ". Write the class of every fine label, in order."
            )
        if self.train is not None:
            shared_classes(self.train, self.source)
        rows = jax.ShapeDtypeStruct((4, 8), jnp.float32)
        labels = jax.ShapeDtypeStruct((4,), jnp.int32)
        for name, term in exchange.by_name(self.terms).items():
            shape = jax.eval_shape(term, rows, rows, labels).shape
            if shape not in ((), (4,)):
                raise ValueError(
                    f"Geometry.terms[{name!r}] gives {list(shape)} for 4 rows; a term "
                    f"gives one value for each row, or their mean."
                )

    def run(self, encode: Encode) -> dict[str, float]:
        """The numbers above that are defined."""
        self.check()
        of = self._strata(encode, self.source)
        train = None if self.train is None else self._strata(encode, self.train)
        return {
            **geometry_numbers.cosines(of),
            **geometry_numbers.spreads(of),
            **geometry_numbers.uniformity(of, seed=self.seed),
            **geometry_numbers.simplex(of),
            **geometry_numbers.distances(of),
            **geometry_numbers.nearest_subclass(of, train),
            **geometry_numbers.clusters(of, seed=self.seed),
            **geometry_numbers.ranks(of),
            **self._of_sample(encode, of),
        }

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Cosines of subclass means, a plane of embeddings, spectra and spreads."""
        of = self._strata(encode, self.source)
        fine, coarse = self.source.class_names, self.coarse_names
        subclass_names = tuple(fine[label] for label in of.subclasses)
        class_names = tuple(coarse[label] for label in of.classes)
        names = {"class_names": class_names, "subclass_names": subclass_names}
        directions = unit(of.subclass_means)
        values = geometry_numbers.spectra(of)
        ranks = [geometry_numbers.effective_rank(each) for each in values]
        return {
            "subclass cosines": MeanCosines(
                directions @ directions.T, parents=of.parents, **names
            ),
            "class plane": class_plane(of, seed=self.seed, **names),
            "class spectra": Spectra(values, np.array(ranks), class_names),
            "spread": Spreads(
                of.subclass_spreads, of.class_spreads, of.parents, **names
            ),
        }

    def _strata(self, encode: Encode, source: Source) -> Strata:
        values, labels = self.features(encode, source)
        key = ("strata", source, self.layer, self.preprocess, self.coarse)
        return once(encode, key, lambda: strata(values, labels, self.coarse))

    def _of_sample(self, encode: Encode, of: Strata) -> dict[str, float]:
        """What is measured on some of the images, Q4 and Q10."""
        random = np.random.default_rng(self.seed)
        rows = np.sort(random.permutation(len(of.z))[: self.sample])
        labels = of.classes[of.class_of[rows]]
        moved = exchange.permute_within_classes(labels, seed=self.seed)
        values, _ = self.features(encode, self.source)
        numbers, first, second = {}, values[rows], values[rows]
        if self.views is not None:
            views = exchange.two_views(
                self.source, rows, self.views, self.batch_size, seed=self.seed
            )
            found = [
                [
                    parallel.fetch(encode(pair[:, place]))[self.layer][:count]
                    for place in (0, 1)
                ]
                for pair, count in views
            ]
            first, second = (
                np.concatenate(parts) for parts in zip(*found, strict=True)
            )
            square = ((unit(first) - unit(second)) ** 2).sum(axis=1)
            numbers["alignment"] = float(square.mean())
        for name, term in exchange.by_name(self.terms).items():
            gap = exchange.term_gap(term, first, second, labels, moved)
            numbers[f"permutation_gap_{name}"] = gap
        if self.reconstruction is not None:
            how = self.reconstruction, self.preprocess, self.batch_size
            arrays = reconstruct_rows(encode, self.source, rows, *how)
            _, images, made = (x.astype(np.float64) for x in arrays)
            errors = [((x - images) ** 2).mean() for x in (made[moved], made)]
            numbers["permutation_gap_reconstruction"] = float(errors[0] - errors[1])
        return numbers


def class_plane(
    of: Strata,
    *,
    class_names: tuple[str, ...],
    subclass_names: tuple[str, ...],
    seed: int,
) -> ClassPlane:
    """The two main axes of all embeddings; at most `MOST_POINTS` of them are shown."""
    centre, axes, share = principal_axes(of.z, 2)
    rows = np.sort(np.random.default_rng(seed).permutation(len(of.z))[:MOST_POINTS])
    return ClassPlane(
        points=(of.z[rows] - centre) @ axes,
        labels=of.class_of[rows],
        class_means=(of.class_means - centre) @ axes,
        subclass_means=(of.subclass_means - centre) @ axes,
        parents=of.parents,
        class_names=class_names,
        subclass_names=subclass_names,
        method=f"plane of the two main axes of unit features, which holds {share:.0%} "
        f"of their variance; {len(rows)} of {len(of.z)} images as dots, means of "
        f"subclasses as discs, of classes as diamonds",
    )
