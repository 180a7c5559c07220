"""The benchmark of negatives times them beside a network, and says what it found."""

import dataclasses
import json

import pytest

from benchmarks import negatives
from jax_rcl import parallel

TINY = ["--size=32", "--batch=2", "--depth=10", "--side", "4", "9", "--patch=12"]


@pytest.mark.slow
def test_the_table_and_the_numbers_say_what_was_measured(tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert negatives.main([*TINY, "--repetitions=2", f"--json={path}"]) == 0
    numbers = json.loads(path.read_text())
    found = negatives.Measurement(**{**numbers, "side": tuple(numbers["side"])})
    printed = capsys.readouterr().out.strip()
    assert printed == f"{negatives.table(found)}\n{path.read_text().strip()}"
    assert (found.size, found.batch, found.depth) == (32, 2, 10)
    assert (found.side, found.patch, found.repetitions) == ((4, 9), 12, 2)
    assert found.device == parallel.device_name()
    seconds = found.forward_seconds
    assert found.mosaic_ratio == pytest.approx(found.mosaic_seconds / seconds)
    assert found.quilting_ratio == pytest.approx(found.quilting_seconds / seconds)
    assert min(seconds, found.mosaic_seconds, found.quilting_seconds) > 0
    slow = dataclasses.replace(found, mosaic_ratio=12.5)
    assert "12.5000 of the forward pass" in negatives.table(slow)
    for part in ("ResNet-10", "mosaics 4-9", "quilting 12", "2 images of 32 x 32"):
        assert part in negatives.table(found)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch=0"], "--batch 0 must be at least 1"),
        (["--size=64"], "PatchMosaic.side (16, 72) must fit"),
        (["--size=80"], "Quilting.patch 96 must fit"),
        (["--side", "9", "4"], "PatchMosaic.side (9, 4)"),
        (["--patch=5"], "Quilting.block 1 must be"),
    ],
)
def test_sizes_that_cannot_be_are_refused(argv, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        negatives.main(argv)
    assert message in capsys.readouterr().err
