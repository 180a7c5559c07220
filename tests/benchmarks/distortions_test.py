"""The benchmark of distortions times each of them beside the view."""

import json

import pytest

from benchmarks import distortions


def test_every_distortion_is_timed_beside_the_view(tmp_path, capsys):
    path = tmp_path / "b.json"
    arguments = ["--size=12", "--batch=2", "--repetitions=1", f"--json={path}"]
    assert distortions.main(arguments) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == list(distortions.distortions(12))
    assert rows[0]["ratio"] == 1 and min(row["seconds"] for row in rows) > 0
    printed = capsys.readouterr().out
    assert all(f"| {row['name']} | " in printed for row in rows)


def test_kernels_fit_into_small_images(capsys):
    with pytest.raises(SystemExit, match="2"):
        distortions.main(["--size=11"])
    assert "--size 11 must be at least 12" in capsys.readouterr().err
