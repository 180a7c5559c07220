"""The vote of the nearest neighbours."""

import numpy as np
import pytest

from jax_rcl.core import Evaluator
from jax_rcl.evaluate.knn import Neighbours, votes


def slow_votes(features, labels, queries, *, neighbours, temperature, classes):
    """The same in loops and float64."""
    shares = np.zeros((len(queries), classes))
    for i, query in enumerate(queries.astype(np.float64)):
        cosines = [
            query @ x / np.linalg.norm(query) / np.linalg.norm(x)
            for x in features.astype(np.float64)
        ]
        for place in np.argsort(-np.array(cosines), kind="stable")[:neighbours]:
            shares[i, labels[place]] += np.exp(cosines[place] / temperature)
        shares[i] /= shares[i].sum()
    return shares


@pytest.fixture(scope="module")
def arrays():
    """Features and labels that vote, and queries."""
    random = np.random.default_rng(3)
    features = random.normal(size=(40, 6)).astype(np.float32)
    queries = random.normal(size=(13, 6)).astype(np.float32)
    return features, random.integers(0, 4, 40).astype(np.int32), queries


@pytest.mark.parametrize("neighbours", [7, 40])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_equals_the_definition(arrays, neighbours, temperature):
    settings = {"neighbours": neighbours, "temperature": temperature, "classes": 4}
    np.testing.assert_allclose(
        votes(*arrays, **settings), slow_votes(*arrays, **settings), atol=2e-6
    )


@pytest.mark.parametrize("block", [1, 5])
def test_blocks_do_not_change_the_vote(arrays, block):
    settings = {"neighbours": 7, "temperature": 0.07, "classes": 4}
    np.testing.assert_allclose(
        votes(*arrays, **settings, block=block), votes(*arrays, **settings), atol=1e-6
    )


def test_lengths_of_features_do_not_matter(arrays):
    features, labels, queries = arrays
    settings = {"neighbours": 7, "temperature": 0.07, "classes": 4}
    lengths = np.linspace(0.01, 100, 40, dtype=np.float32)[:, None]
    np.testing.assert_allclose(
        votes(features * lengths, labels, queries * np.float32(5), **settings),
        votes(features, labels, queries, **settings),
        atol=1e-5,
    )


def test_a_small_temperature_leaves_the_decision_to_the_nearest(arrays):
    shares = votes(*arrays, neighbours=7, temperature=1e-4, classes=4)
    nearest = votes(*arrays, neighbours=1, temperature=1.0, classes=4)
    np.testing.assert_array_equal(np.argmax(shares, 1), np.argmax(nearest, 1))
    assert np.isfinite(shares).all()


def test_of_equally_similar_neighbours_the_first_vote():
    features = np.ones((5, 2), np.float32)
    labels = np.array([1, 0, 2, 0, 0], np.int32)
    shares = votes(
        features, labels, features[:1], neighbours=3, temperature=0.1, classes=3
    )
    np.testing.assert_allclose(shares, np.full((1, 3), 1 / 3), atol=1e-6)


def test_a_zero_vector_is_equally_far_from_all():
    features = np.array([[1, 0], [0, 1]], np.float32)
    labels = np.array([0, 1], np.int32)
    zero = np.zeros((1, 2), np.float32)
    shares = votes(features, labels, zero, neighbours=2, temperature=0.1, classes=2)
    np.testing.assert_allclose(shares, [[0.5, 0.5]])


def test_more_neighbours_than_features_is_an_error(arrays):
    with pytest.raises(ValueError, match=r"41 neighbours .* among 40"):
        votes(*arrays, neighbours=41, temperature=0.1, classes=4)


def test_separable_classes_are_all_found(blobs, encode):
    train, test = blobs(30, seed=1), blobs(20, seed=2)
    numbers = Neighbours(train, test, k=5, batch_size=8).run(encode)
    assert numbers == {"top1": 1.0, "balanced": 1.0}


def test_noise_is_found_at_chance(in_memory, encode):
    random = np.random.default_rng(0)

    def noise(count):
        images = random.integers(0, 256, (count, 3, 3, 1)).astype(np.uint8)
        return in_memory(images, random.integers(0, 2, count), ("a", "b"))

    numbers = Neighbours(noise(200), noise(200), k=5, batch_size=50).run(encode)
    assert set(numbers) == {"top1", "balanced", "auroc"}
    assert all(0.35 < number < 0.65 for number in numbers.values())


def test_padding_is_never_counted(in_memory, blobs, encode):
    train, test = blobs(31, seed=1), blobs(21, seed=2, noise=60)
    whole = Neighbours(train, test, k=5, batch_size=21).run(encode)
    padded = Neighbours(
        in_memory(train.images, train.labels, train.class_names),
        in_memory(test.images, test.labels, test.class_names),
        k=5,
        batch_size=8,
    ).run(encode)
    assert whole == padded
    assert whole["top1"] * 21 == pytest.approx(round(whole["top1"] * 21))
    assert whole["top1"] < 1


def test_the_order_of_the_test_images_does_not_matter(in_memory, blobs, encode):
    train, test = blobs(30, seed=1), blobs(20, seed=2, noise=60)
    order = np.random.default_rng(0).permutation(20)
    shuffled = in_memory(test.images[order], test.labels[order], test.class_names)
    numbers = Neighbours(train, test, k=5, batch_size=8).run(encode)
    again = Neighbours(train, shuffled, k=5, batch_size=8).run(encode)
    assert again == pytest.approx(numbers)


def test_results_are_the_same_every_time(blobs, fresh_encode):
    probe = Neighbours(blobs(30), blobs(20, seed=2, noise=60), k=5, batch_size=8)
    assert probe.run(fresh_encode()) == probe.run(fresh_encode())


def test_more_neighbours_than_training_images_is_an_error(blobs, encode):
    with pytest.raises(ValueError, match="exceeds the 12 training images"):
        Neighbours(blobs(12), blobs(8), k=13).run(encode)
    assert not encode.batches


def test_a_set_is_not_tested_on_itself(blobs, encode):
    train = blobs(12)
    with pytest.raises(ValueError, match="found by itself"):
        Neighbours(train, train, k=3).run(encode)


def test_values_out_of_range_are_named(blobs):
    with pytest.raises(ValueError, match=r"temperature 0\.0 must be above 0"):
        Neighbours(blobs(12), blobs(8), temperature=0.0)


def test_says_what_it_measures(blobs):
    evaluator = Neighbours(blobs(12), blobs(8), k=5)
    assert isinstance(evaluator, Evaluator)
    assert evaluator.protocol == (
        "vote of the k=5 nearest of 12 training images for 8 test images of 3 classes, "
        "cosine of 'features', temperature 0.07"
    )
