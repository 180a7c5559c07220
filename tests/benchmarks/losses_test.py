"""The benchmark of losses times the same numbers three ways."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import losses


def test_the_loss_and_both_loops_agree_in_value_and_gradient():
    views, labels = losses.example(6, 4)
    assert views.shape == (6, 2, 4) and labels.shape == (6,)
    labels = labels % 2  # so few examples have hardly two of a class among ten
    value, gradient = jax.jit(losses.vectorized)(
        jnp.asarray(views), jnp.asarray(labels)
    )
    for found in (
        losses.loop(jnp.asarray(views), labels),
        losses.loop_by_hand(views, labels),
    ):
        np.testing.assert_allclose(found[0], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-4, atol=1e-6)
    assert np.abs(gradient).max() > 1e-2


def test_loops_are_measured_beside_the_loss(tmp_path, capsys):
    path = tmp_path / "bench.json"
    sizes = ["--batch=6", "--width=4", "--repetitions=2"]
    assert losses.main([*sizes, f"--json={path}"]) == 0
    found = json.loads(path.read_text())
    assert found["settings"] == {"batch": 6, "width": 4, "repetitions": 2}
    first, *others = found["rows"]
    printed = capsys.readouterr().out
    for row in others:
        assert row["ratio"] == pytest.approx(row["seconds"] / first["seconds"])
        assert f"| {row['name']} |" in printed
