"""The benchmark of losses times the same numbers three ways, and says what it found."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import losses
from jax_rcl import parallel


def test_the_loss_and_both_loops_agree_in_value_and_gradient():
    views, labels = losses.example(6, 4)
    assert views.shape == (6, 2, 4) and labels.shape == (6,)
    labels = labels % 2  # so few examples have hardly two of a class among ten
    value, gradient = jax.jit(losses.vectorised)(
        jnp.asarray(views), jnp.asarray(labels)
    )
    for found in (
        losses.looped(jnp.asarray(views), labels),
        losses.looped_by_hand(views, labels),
    ):
        np.testing.assert_allclose(found[0], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-4, atol=1e-6)
    assert np.abs(gradient).max() > 1e-2


def test_the_table_and_the_file_say_what_was_measured(tmp_path, capsys):
    path = tmp_path / "bench.json"
    sizes = ["--batch=6", "--width=4", "--repetitions=2"]
    assert losses.main([*sizes, f"--json={path}"]) == 0
    found = losses.Measurement(**json.loads(path.read_text()))
    assert capsys.readouterr().out.strip() == losses.table(found)
    assert (found.batch, found.width, found.repetitions) == (6, 4, 2)
    assert found.device == parallel.device_name()
    assert found.loop_ratio == pytest.approx(found.loop_seconds / found.seconds)
    assert found.numpy_ratio == pytest.approx(found.numpy_seconds / found.seconds)
    assert found.seconds > 0
    for part in ("device", "date"):
        assert str(getattr(found, part)) in losses.table(found)
    slow = dataclasses.replace(found, loop_ratio=1234.5)
    assert "1234.5 times as long" in losses.table(slow)


def test_sizes_below_one_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        losses.main(["--batch=0"])
    assert "--batch 0 must be at least 1" in capsys.readouterr().err
