"""Two levels of labels and the means of both."""

import numpy as np

from jax_rcl.evaluate.strata import drawn, strata, unit


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
    large, small = drawn(groups, 3, seed=0)
    assert len(large) == 3 and set(large) < {0, 2, 3, 5}
    np.testing.assert_array_equal(large, np.sort(large))
    np.testing.assert_array_equal(small, [1, 4])
    np.testing.assert_array_equal(drawn(groups, 3, seed=0)[0], large)
