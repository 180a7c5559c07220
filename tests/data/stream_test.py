"""The order of examples is a function of count, batch size and seed, and of no more."""

import dataclasses
import itertools

import numpy as np
import pytest

from jax_rcl.data.sources import Synthetic
from jax_rcl.data.stream import Order, eval_batches, load, train_stream

SOURCE = Synthetic(size=4, count=22)


@dataclasses.dataclass(frozen=True)
class Faulty:
    """Record i has the image i, except for one, which cannot be read or is larger."""

    at: int
    fault: str
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict:
        if index == self.at and self.fault == "damaged":
            raise ValueError("cats/seven.png does not decode")
        size = 3 if index == self.at and self.fault == "larger" else 2
        return {"image": np.full((size, size, 1), index % 256, np.uint8)}


def collected(stream) -> list:
    batches = list(stream)
    stream.close()
    return batches


def assert_same(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key])


def test_an_epoch_sees_each_example_at_most_once_and_fills_every_batch():
    order = Order(22, 5, seed=3)
    assert order.steps_per_epoch == 4
    for epoch in range(3):
        steps = range(4 * epoch, 4 * epoch + 4)
        seen = np.concatenate([order.indices(step) for step in steps])
        assert len(seen) == len(set(seen.tolist())) == 20
        assert seen.min() >= 0 and seen.max() < 22


def test_over_many_epochs_every_example_is_seen():
    order = Order(22, 20)
    assert set(np.concatenate([order.indices(e) for e in range(20)])) == set(range(22))


def test_epochs_and_seeds_have_different_orders():
    first = [Order(22, 22, seed).indices(e) for seed in (0, 1) for e in (0, 1)]
    assert len({tuple(order) for order in first}) == 4


def test_indices_may_be_changed_without_changing_the_order():
    order = Order(22, 5)
    order.indices(0)[:] = -1
    assert (order.indices(0) >= 0).all()


def test_a_batch_larger_than_the_source_is_refused():
    with pytest.raises(ValueError, match=r"batch of 23 .* 22 examples.* at most 22"):
        Order(22, 23)
    with pytest.raises(ValueError, match=r"Order\.batch_size 0 must be at least 1"):
        Order(22, 0)


def test_shares_of_1_2_and_4_processes_put_together_are_the_same_batches():
    order = Order(len(SOURCE), 8)

    def batches(processes: int) -> list:
        shares = [
            train_stream(
                SOURCE,
                order,
                start_step=0,
                stop_step=5,
                process_index=p,
                process_count=processes,
                threads=2,
            )
            for p in range(processes)
        ]
        return [
            {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            for parts in zip(*map(collected, shares), strict=True)
        ]

    whole = batches(1)
    assert whole[0]["image"].shape == (8, 4, 4, 3)
    assert whole[0]["image"].dtype == np.uint8 and whole[0]["label"].dtype == np.int32
    assert_same(whole, batches(2))
    assert_same(whole, batches(4))


def test_starting_at_a_step_is_the_same_as_skipping_to_it():
    order = Order(len(SOURCE), 8)
    options = {"stop_step": 9, "threads": 3}
    all_of_it = collected(train_stream(SOURCE, order, start_step=0, **options))
    for start in (1, 2, 5):
        rest = collected(train_stream(SOURCE, order, start_step=start, **options))
        assert_same(all_of_it[start:], rest)


def test_the_number_of_threads_does_not_matter():
    order = Order(len(SOURCE), 4)
    one, many = (
        collected(train_stream(SOURCE, order, start_step=0, stop_step=12, threads=t))
        for t in (1, 8)
    )
    assert_same(one, many)


def test_streaming_and_resident_data_give_the_same_batches():
    order, arrays = Order(len(SOURCE), 8, seed=1), load(SOURCE)
    resident = [
        {key: rows[order.indices(step)] for key, rows in arrays.items()}
        for step in range(6)
    ]
    streamed = collected(train_stream(SOURCE, order, start_step=0, stop_step=6))
    assert_same(resident, streamed)


def test_a_run_that_is_over_gives_no_batches():
    stream = train_stream(SOURCE, Order(22, 8), start_step=4, stop_step=4)
    assert collected(stream) == []


def test_what_a_source_raises_comes_out_at_its_step():
    source, order = Faulty(at=7, fault="damaged"), Order(1000, 10)
    [step] = [s for s in range(100) if 7 in order.indices(s)]
    stream = train_stream(source, order, start_step=0, stop_step=100, threads=4)
    assert len(list(itertools.islice(stream, step))) == step
    with pytest.raises(ValueError, match=r"cats/seven\.png does not decode"):
        next(stream)
    stream.close()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("damaged", r"cats/seven\.png"),
        ("larger", r"'image' of record 700 .* \[3, 3, 1\], of record 0 .* \[2, 2, 1\]"),
    ],
)
def test_a_record_that_cannot_be_loaded_is_named(fault, message):
    with pytest.raises(ValueError, match=message):
        load(Faulty(at=700, fault=fault))


def test_loading_keeps_the_order_of_records():
    arrays = load(Faulty(at=-1, fault="none"), progress="loading")
    np.testing.assert_array_equal(arrays["image"][:, 0, 0, 0], np.arange(1000) % 256)


@pytest.mark.parametrize("batch_size", [1, 5, 22, 30])
def test_evaluation_sees_every_record_once_in_order_and_in_one_shape(batch_size):
    batches = list(eval_batches(SOURCE, batch_size))
    assert all(rows["image"].shape == (batch_size, 4, 4, 3) for rows, _ in batches)
    assert all(mask.shape == (batch_size,) for _, mask in batches)
    images = np.concatenate([rows["image"][mask] for rows, mask in batches])
    np.testing.assert_array_equal(images, load(SOURCE)["image"])


def test_the_last_evaluation_batch_is_filled_up_with_the_last_record():
    *_, (rows, mask) = eval_batches(SOURCE, 5)
    assert mask.tolist() == [True, True, False, False, False]
    np.testing.assert_array_equal(rows["image"][2:], rows["image"][[1, 1, 1]])


def test_evaluation_can_be_left_early():
    batches = eval_batches(SOURCE, 2)
    next(batches)
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)
