"""When things are due."""

import pytest

from jax_rcl.core import When
from jax_rcl.evaluate.when import AtEnd, Every, Never


def due_steps(when, *, total, epoch):
    """All steps from 0 to the last at which something is due."""
    return [
        step
        for step in range(total + 1)
        if when.due(step, total_steps=total, steps_per_epoch=epoch)
    ]


@pytest.mark.parametrize(
    ("when", "steps"),
    [
        (Every(steps=4), [4, 8, 10]),
        (Every(steps=5), [5, 10]),
        (Every(steps=1), list(range(1, 11))),
        (Every(steps=100), [10]),
        (Every(epochs=1), [3, 6, 9, 10]),
        (Every(epochs=2), [6, 10]),
        (AtEnd(), [10]),
        (Never(), []),
    ],
)
def test_due_at_multiples_and_at_the_end(when, steps):
    assert due_steps(when, total=10, epoch=3) == steps


def test_a_run_without_steps_is_at_its_end():
    assert due_steps(Every(steps=4), total=0, epoch=3) == [0]
    assert due_steps(AtEnd(), total=0, epoch=3) == [0]


@pytest.mark.parametrize("when", [Every(epochs=1), AtEnd(), Never()])
def test_is_a_value_that_fulfils_the_protocol(when):
    assert isinstance(when, When)
    assert hash(when) == hash(type(when)(**vars(when)))


@pytest.mark.parametrize("periods", [{}, {"steps": 3, "epochs": 1}])
def test_every_needs_exactly_one_period(periods):
    with pytest.raises(ValueError, match="one period"):
        Every(**periods)


def test_a_period_is_at_least_one():
    with pytest.raises(ValueError, match=r"Every\.steps 0 .* at least 1, .* Never\(\)"):
        Every(steps=0)
