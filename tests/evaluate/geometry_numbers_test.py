"""Each number of the geometry report against its definition, written out slowly."""

import itertools
import warnings

import numpy as np
import pytest

from jax_rcl.evaluate import geometry_numbers as numbers
from jax_rcl.evaluate.geometry_numbers import draw_rows, strata, unit

COARSE = (1, 0, 1, 0, 2)


def data(seed=0, n=60, d=7):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.r_[np.arange(5), random.integers(0, 5, n - 5)])
    centres = random.normal(size=(5, d))
    features = centres[labels] + random.normal(size=(n, d))
    return features.astype(np.float32), labels


def mean_of(x, labels):
    return {label: x[labels == label].mean(axis=0) for label in np.unique(labels)}


@pytest.fixture
def case():
    """Embeddings, their classes and subclasses, and the means of both."""
    features, fine = data()
    z = features.astype(np.float64)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    coarse = np.array(COARSE)[fine]
    return z, fine, coarse, mean_of(z, fine), mean_of(z, coarse)


@pytest.fixture
def of():
    """The same as the report sees them."""
    return strata(*data(), COARSE)


def test_cosines_are_means_over_pairs(of, case):
    z, _, coarse, _, _ = case
    pairs = list(itertools.combinations(range(len(z)), 2))
    same = [z[i] @ z[j] for i, j in pairs if coarse[i] == coarse[j]]
    other = [z[i] @ z[j] for i, j in pairs if coarse[i] != coarse[j]]
    assert numbers.cosines(of) == pytest.approx(
        {
            "within_class_cosine": np.mean(same),
            "between_class_cosine": np.mean(other),
        }
    )


def test_spreads_are_mean_squared_distances(of, case):
    z, fine, coarse, fine_means, means = case
    within = np.mean(
        [((x - means[c]) ** 2).sum() for x, c in zip(z, coarse, strict=True)]
    )
    total = np.mean([((x - z.mean(axis=0)) ** 2).sum() for x in z])
    moved = [((fine_means[f] - means[COARSE[f]]) ** 2).sum() for f in fine]
    inner = np.mean(
        [np.outer(x - means[c], x - means[c]) for x, c in zip(z, coarse, strict=True)],
        0,
    )
    centred = np.stack(list(means.values()))
    centred = centred - centred.mean(axis=0)
    outer = centred.T @ centred / 3
    found = numbers.spreads(of)
    assert found == pytest.approx(
        {
            "within_class_spread": within,
            "within_over_total": within / total,
            "collapse_ratio": np.trace(inner @ np.linalg.pinv(outer, 1e-9)) / 3,
            "subclass_share": np.mean(moved) / within,
        }
    )
    lengths = np.array([means[c] @ means[c] for c in coarse])
    assert found["within_class_spread"] == pytest.approx(1 - lengths.mean())


def test_uniformity_is_the_log_of_the_mean_potential(of, case):
    z, _, coarse, _, _ = case
    potentials = [
        np.exp(-2 * ((z[i] - z[j]) ** 2).sum())
        for i, j in itertools.combinations(range(len(z)), 2)
        if coarse[i] == coarse[j]
    ]
    found = numbers.uniformity(of, seed=0)["class_uniformity"]
    assert found == pytest.approx(np.log(np.mean(potentials)))


def test_drawn_pairs_stand_for_all_pairs_of_their_class(of, monkeypatch):
    exact = numbers.uniformity(of, seed=0)["class_uniformity"]
    monkeypatch.setattr(numbers, "MOST_OF_CLASS", 12)
    drawn = [numbers.uniformity(of, seed=s)["class_uniformity"] for s in range(200)]
    assert np.log(np.mean(np.exp(drawn))) == pytest.approx(exact, abs=0.02)
    assert np.std(drawn) > 0


def test_simplex_deviations_are_over_pairs_of_classes(of, case):
    means = np.stack(list(case[4].values()))
    away = means - means.mean(axis=0)
    lengths = np.linalg.norm(away, axis=1)
    deviations = [
        abs(away[i] @ away[j] / lengths[i] / lengths[j] + 0.5)
        for i, j in itertools.combinations(range(3), 2)
    ]
    assert numbers.simplex(of) == pytest.approx(
        {
            "simplex_deviation": np.mean(deviations),
            "simplex_deviation_max": max(deviations),
            "class_radius_variation": lengths.std() / lengths.mean(),
        }
    )


def test_distances_are_between_subclass_means(of, case):
    z, fine, _, means, _ = case
    pairs = list(itertools.combinations(range(5), 2))
    apart = {(i, j): np.linalg.norm(means[i] - means[j]) for i, j in pairs}
    same = [apart[i, j] for i, j in pairs if COARSE[i] == COARSE[j]]
    other = [apart[i, j] for i, j in pairs if COARSE[i] != COARSE[j]]
    sizes = [np.sum(fine == i) for i in range(5)]
    inner = [((z[fine == i] - means[i]) ** 2).sum(axis=1).mean() for i in range(5)]
    assert numbers.distances(of) == pytest.approx(
        {
            "subclass_distance_within": np.mean(same),
            "subclass_distance_between": np.mean(other),
            "size_spread_correlation": np.corrcoef(sizes, inner)[0, 1],
        }
    )


def test_subclasses_of_equal_sizes_have_no_correlation_with_size():
    features, _ = data(n=50)
    found = numbers.distances(strata(features, np.arange(50) % 5, COARSE))
    assert "size_spread_correlation" not in found


def test_the_nearest_mean_leaves_the_image_out(of, case):
    z, fine, _, _, _ = case
    right = []
    for i, label in enumerate(fine):
        others = np.arange(len(z)) != i
        means = mean_of(z[others], fine[others])
        near = min(means, key=lambda k: np.linalg.norm(z[i] - means[k]))
        right.append(near == label)
    found = numbers.nearest_subclass(of)["nearest_subclass_accuracy"]
    assert 0.3 < found < 1
    assert found == pytest.approx(np.mean(right))


def test_the_only_image_of_a_subclass_is_missed():
    features = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 2]]
    of = strata(features, np.array([0, 0, 1, 1, 2]), (0, 0, 1))
    assert numbers.nearest_subclass(of)["nearest_subclass_accuracy"] == 0.8


def test_the_nearest_mean_may_be_of_other_images(of, case):
    z, fine, _, _, _ = case
    features, labels = data(seed=1)
    other = strata(features, labels, COARSE)
    means = mean_of(other.z, labels)
    near = [min(means, key=lambda k: np.linalg.norm(x - means[k])) for x in z]
    found = numbers.nearest_subclass(of, other)["nearest_subclass_accuracy"]
    assert found == pytest.approx(np.mean(near == fine))


def test_agreement_of_clusters_is_counted_over_images_and_pairs():
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 40)
    found = np.where(random.random(40) < 0.4, random.integers(0, 4, 40), truth)
    purest = [np.bincount(truth[found == k]).max() for k in np.unique(found)]

    def share(*conditions):
        return np.mean(np.all(conditions, axis=0))

    def entropy(labels):
        return -sum(
            share(labels == k) * np.log(share(labels == k)) for k in set(labels)
        )

    shared = sum(
        share(found == i, truth == j)
        * np.log(share(found == i, truth == j) / share(found == i) / share(truth == j))
        for i, j in set(zip(found, truth, strict=True))
    )
    pairs = list(itertools.combinations(range(40), 2))
    one, two = np.array(
        [(found[i] == found[j], truth[i] == truth[j]) for i, j in pairs]
    ).T
    expected = one.sum() * two.sum() / len(pairs)
    assert numbers.agreement(found, truth) == pytest.approx(
        {
            "purity": sum(purest) / 40,
            "nmi": 2 * shared / (entropy(found) + entropy(truth)),
            "ari": ((one & two).sum() - expected)
            / ((one.sum() + two.sum()) / 2 - expected),
        }
    )


def test_clusters_are_found_within_classes_and_the_same_every_time():
    features, labels = data(n=300, d=3)
    of = strata(features, labels, COARSE)
    found = numbers.clusters(of, seed=0)
    assert found == numbers.clusters(of, seed=0)
    assert 0.5 < found["cluster_purity"] < 1
    assert 0 < found["cluster_nmi"] < 1
    # Exchanging whole classes changes nothing, nor does the class of one subclass.
    alone = strata(features, labels, (0, 1, 0, 1, 3))
    assert numbers.clusters(alone, seed=0) == pytest.approx(found)


def test_singular_values_and_ranks_are_those_of_each_class(of, case):
    z, _, coarse, _, means = case
    ranks, largest = [], []
    for place, values in enumerate(numbers.spectra(of)):
        centred = z[coarse == place] - means[place]
        expected = np.linalg.svd(centred / np.sqrt(len(centred)), compute_uv=False)
        np.testing.assert_allclose(values, expected[: len(values)], atol=1e-7)
        assert len(values) == min(len(centred) - 1, 7)
        assert (values**2).sum() == pytest.approx(of.class_spreads[place])
        shares = expected**2 / (expected**2).sum()
        ranks.append(np.exp(-(shares * np.log(shares + 1e-300)).sum()))
        largest.append(expected[0])
    assert numbers.ranks(of) == pytest.approx(
        {
            "effective_rank": np.mean(ranks),
            "largest_singular_value": np.mean(largest),
        }
    )


def test_the_effective_rank_counts_equal_directions():
    assert numbers.effective_rank(np.full(5, 0.3)) == pytest.approx(5)
    assert numbers.effective_rank(np.array([0.3, 0.0])) == pytest.approx(1)
    assert numbers.effective_rank(np.zeros(4)) == 1
    assert numbers.effective_rank(np.zeros(0)) == 1


def every_number(of):
    return {
        **numbers.cosines(of),
        **numbers.spreads(of),
        **numbers.uniformity(of, seed=0),
        **numbers.simplex(of),
        **numbers.distances(of),
        **numbers.nearest_subclass(of),
        **numbers.clusters(of, seed=0),
        **numbers.ranks(of),
    }


@pytest.mark.parametrize("noise", [0, 1e-7])
def test_classes_that_collapse_onto_a_simplex_have_the_values_of_collapse(noise):
    labels = np.arange(120) % 6
    coarse = (0, 0, 1, 1, 2, 2)
    features = 5 * np.eye(8)[np.array(coarse)[labels]]
    features = features + noise * np.random.default_rng(0).normal(size=features.shape)
    found = every_number(strata(features.astype(np.float32), labels, coarse))
    expected = {
        "within_class_cosine": 1,
        "between_class_cosine": 0,
        "within_class_spread": 0,
        "within_over_total": 0,
        "collapse_ratio": 0,
        "class_uniformity": 0,
        "simplex_deviation": 0,
        "simplex_deviation_max": 0,
        "class_radius_variation": 0,
        "subclass_distance_within": 0,
        "subclass_distance_between": np.sqrt(2),
        "effective_rank": 1,
        "largest_singular_value": 0,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert "subclass_share" not in found
    assert np.isfinite(list(found.values())).all()


def test_one_point_for_everything_is_finite():
    of = strata(np.ones((40, 3), np.float32), np.arange(40) % 4, (0, 0, 1, 1))
    found = every_number(of)
    assert np.isfinite(list(found.values())).all()
    assert found["within_over_total"] == 0
    assert "simplex_deviation" not in found  # of two classes it says nothing
    of = strata(np.ones((40, 3), np.float32), np.arange(40) % 4, (0, 0, 1, 2))
    assert numbers.simplex(of)["simplex_deviation"] == pytest.approx(1 / 2)
    assert found["cluster_nmi"] == found["cluster_ari"] == 0
    assert found["cluster_purity"] == 0.5
    assert not {"subclass_share", "collapse_ratio"} & set(found)


def test_zero_features_are_finite():
    of = strata(np.zeros((8, 3), np.float32), np.arange(8) % 4, (0, 0, 1, 1))
    assert np.isfinite(list(every_number(of).values())).all()


def test_a_class_without_structure_leaves_its_numbers_out():
    # One class of one subclass, and every image its own class.
    features, _ = data(n=10)
    single = every_number(strata(features, np.zeros(10, int), (0,)))
    assert not {"between_class_cosine", "simplex_deviation", "cluster_nmi"} & set(
        single
    )
    alone = every_number(strata(features[:5], np.arange(5), (0, 1, 2, 3, 4)))
    assert not {"within_class_cosine", "class_uniformity"} & set(alone)
    assert alone["nearest_subclass_accuracy"] == 0
    assert np.isfinite([*single.values(), *alone.values()]).all()


def test_subclasses_that_are_points_explain_all_spread():
    labels = np.arange(90) % 6
    features = np.eye(6, dtype=np.float32)[labels]
    found = every_number(strata(features, labels, (0, 0, 0, 1, 1, 1)))
    for name in ("subclass_share", "cluster_purity", "cluster_nmi", "cluster_ari"):
        assert found[name] == pytest.approx(1)
    assert found["nearest_subclass_accuracy"] == 1


def test_spread_without_subclasses_is_explained_by_none():
    random = np.random.default_rng(0)
    labels = np.arange(4000) % 4
    features = random.normal(size=(4000, 8)).astype(np.float32)
    found = every_number(strata(features, labels, (0, 0, 1, 1)))
    assert found["subclass_share"] < 0.005
    assert found["cluster_nmi"] < 0.01
    assert abs(found["cluster_ari"]) < 0.01
    assert found["nearest_subclass_accuracy"] == pytest.approx(0.25, abs=0.03)


def test_uniformity_is_bounded_by_opposite_points():
    features = np.array([[1, 0], [-1, 0]], np.float32)
    of = strata(features, np.array([0, 1]), (0, 0))
    assert numbers.uniformity(of, seed=0)["class_uniformity"] == pytest.approx(-8)


def test_nothing_warns_when_a_class_has_fewer_points_than_subclasses():
    features = np.eye(4, dtype=np.float32)[np.arange(40) % 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = numbers.clusters(strata(features, np.arange(40) % 4, (0,) * 4), seed=0)
    assert found["cluster_purity"] == pytest.approx(0.5)


# Labels of two levels.


def test_subclasses_stand_by_class_and_keep_their_images():
    labels = np.array([3, 0, 2, 3, 0, 2, 2])
    features = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    of = strata(features, labels, (5, 1, 1, 5))
    # Fine label 1 does not occur; of the others, class 1 comes before class 5.
    np.testing.assert_array_equal(of.subclasses, [2, 0, 3])
    np.testing.assert_array_equal(of.classes, [1, 5])
    np.testing.assert_array_equal(of.parents, [0, 1, 1])
    np.testing.assert_array_equal(of.subclasses[of.subclass_of], labels)
    np.testing.assert_array_equal(of.classes[of.class_of], [5, 5, 1, 5, 5, 1, 1])
    np.testing.assert_array_equal(of.subclass_sizes, [3, 2, 2])
    np.testing.assert_array_equal(of.class_sizes, [3, 4])
    for place, label in enumerate(of.subclasses):
        own = of.z[labels == label]
        np.testing.assert_allclose(of.subclass_means[place], own.mean(axis=0))
        spread = ((own - own.mean(axis=0)) ** 2).sum(axis=1).mean()
        np.testing.assert_allclose(of.subclass_spreads[place], spread)
    np.testing.assert_allclose(of.class_means[0], of.subclass_means[0])


def test_vectors_have_length_one_unless_they_are_zero():
    z = unit(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(z, [[0.6, 0.8], [0, 0]])
    assert z.dtype == np.float64


def test_rows_are_drawn_from_large_groups_only():
    groups = np.array([0, 1, 0, 0, 1, 0])
    large, small = draw_rows(groups, 3, seed=0)
    assert len(large) == 3 and set(large) < {0, 2, 3, 5}
    np.testing.assert_array_equal(large, np.sort(large))
    np.testing.assert_array_equal(small, [1, 4])
    np.testing.assert_array_equal(draw_rows(groups, 3, seed=0)[0], large)
