"""Confusion matrices and maps of features."""

import numpy as np
import pytest

from jax_rcl.evaluate import findings

NAMES = ("a", "b", "c")


def clusters(count):
    """Features around three orthogonal directions, and their labels."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    features = 5 * np.eye(8)[labels] + 0.3 * random.normal(size=(count, 8))
    return features.astype(np.float32), labels


def test_confusion_counts_true_classes_in_rows_and_predicted_ones_in_columns():
    labels, predicted = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1])
    found = findings.confusion(labels, predicted, NAMES)
    np.testing.assert_array_equal(found.matrix, [[1, 2, 0], [0, 1, 0], [0, 0, 0]])
    assert found.class_names == NAMES


def test_the_map_keeps_classes_apart():
    features, labels = clusters(60)
    found = findings.embedding(features, labels, NAMES)
    assert found.method == "t-SNE of unit features, 60 of 60 images"
    centres = np.stack([found.points[labels == i].mean(axis=0) for i in range(3)])
    distances = np.linalg.norm(found.points[:, None] - centres[None], axis=2)
    np.testing.assert_array_equal(distances.argmin(axis=1), labels)


def test_the_map_is_the_same_for_the_same_seed():
    features, labels = clusters(60)
    first = findings.embedding(features, labels, NAMES, seed=3)
    second = findings.embedding(features, labels, NAMES, seed=3)
    np.testing.assert_array_equal(first.points, second.points)


def test_a_large_set_is_drawn_from():
    features, labels = clusters(60)
    found = findings.embedding(features, labels, NAMES, most=10)
    assert found.points.shape == (10, 2)
    assert found.labels.shape == (10,)
    assert found.method.endswith("10 of 60 images")
    other = findings.embedding(features, labels, NAMES, seed=1, most=10)
    assert not np.array_equal(found.points, other.points)


def test_few_points_are_shown_by_principal_components():
    # Unit vectors in a plane of eight dimensions: two components keep all distances.
    angles = np.linspace(0, 3, 12)
    plane, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 2)))
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T
    found = findings.embedding(7 * unit, np.zeros(12, np.int32), NAMES)
    assert found.method == "principal components of unit features, 12 of 12 images"

    def distances(x):
        return np.linalg.norm(x[:, None] - x[None], axis=2)

    np.testing.assert_allclose(distances(found.points), distances(unit), atol=1e-6)


@pytest.mark.parametrize("count", [1, 12, 60])
def test_equal_features_are_one_point(count):
    features = np.ones((count, 8), np.float32)
    found = findings.embedding(features, np.zeros(count, np.int32), NAMES)
    np.testing.assert_allclose(found.points, np.zeros((count, 2)), atol=1e-5)
    assert found.method.startswith("principal components")


def test_a_single_feature_still_makes_a_plane():
    features = np.linspace(-1, 1, 12)[:, None]
    found = findings.embedding(features, np.zeros(12, np.int32), NAMES)
    assert found.points.shape == (12, 2)
