"""The benchmark of distortions times each of them beside the view."""

import json

import jax
import pytest

from benchmarks import distortions


@pytest.mark.parametrize(
    "clock", ["counted", pytest.param("real", marks=pytest.mark.slow)]
)
def test_every_distortion_is_timed_beside_the_view(
    clock, tmp_path, capsys, monkeypatch
):
    if (
        clock == "counted"
    ):  # compiles nothing: every one takes twice as long as the last
        seconds = (2.0**n for n in range(-1, 99))

        def traced(run, repetitions):
            assert jax.eval_shape(run).shape == (2, 12, 12, 3)
            return next(seconds)

        monkeypatch.setattr(distortions, "median_seconds", traced)
    path = tmp_path / "b.json"
    arguments = ["--size=12", "--batch=2", "--repetitions=1", f"--json={path}"]
    assert distortions.main(arguments) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == list(distortions.distortions(12))
    assert rows[0]["ratio"] == 1 and min(row["seconds"] for row in rows) > 0
    if clock == "counted":
        assert [row["ratio"] for row in rows] == [2**n for n in range(len(rows))]
    printed = capsys.readouterr().out
    assert all(f"| {row['name']} | " in printed for row in rows)


def test_kernels_fit_into_small_images(capsys):
    with pytest.raises(SystemExit, match="2"):
        distortions.main(["--size=11"])
    assert "--size 11 must be at least 12" in capsys.readouterr().err
