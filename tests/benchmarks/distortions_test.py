"""The benchmark of distortions times each of them beside the view."""

import json

import pytest

from benchmarks import distortions
from jax_rcl import parallel


def test_every_distortion_is_timed_beside_the_view(tmp_path, capsys):
    path = tmp_path / "b.json"
    arguments = ["--size=12", "--batch=2", "--repetitions=1", f"--json={path}"]
    assert distortions.main(arguments) == 0
    found = json.loads(path.read_text())
    assert (found["size"], found["batch"], found["repetitions"]) == (12, 2, 1)
    assert found["device"] == parallel.device_name()
    assert list(found["seconds"]) == list(distortions.distortions(12))
    assert min(found["seconds"].values()) > 0
    printed = capsys.readouterr().out
    assert "| crop and flip | " in printed and found["date"] in printed
    assert all(f"| {name} | " in printed for name in found["seconds"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--size=11", "--size 11 must be at least 12"),
        ("--batch=0", "--batch 0 must be"),
    ],
)
def test_what_cannot_be_measured_is_refused(argument, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        distortions.main([argument])
    assert message in capsys.readouterr().err
