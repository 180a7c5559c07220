"""Means over the epoch so far, which a resumed run goes on with."""

import json

from jax_rcl.train.means import EpochMeans


def test_means_are_of_the_epoch_that_is_under_way():
    means = EpochMeans(steps_per_epoch=3)
    assert means.means() == {}
    found = []
    for step in range(1, 6):
        means.add(step, {"loss": float(step)})
        found.append(means.means()["loss"])
    assert found == [1.0, 1.5, 2.0, 4.0, 4.5]


def test_a_resumed_run_has_the_means_of_one_that_was_never_stopped():
    whole, first, second = (EpochMeans(4) for _ in range(3))
    for step in range(1, 8):
        whole.add(step, {"loss": 0.1 * step, "top1": 1 / step})
        if step == 6:
            second.restore(json.loads(json.dumps(first.facts())))
        (first if step < 6 else second).add(
            step, {"loss": 0.1 * step, "top1": 1 / step}
        )
    assert second.means() == whole.means()
    second.restore(None)  # of a checkpoint of before 0.2
    assert second.means() == whole.means()
