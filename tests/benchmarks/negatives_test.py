"""The benchmark of negatives times them beside a network."""

import json

import pytest

from benchmarks import negatives

TINY = ["--size=32", "--batch=2", "--depth=10", "--side", "4", "9", "--patch=12"]


@pytest.mark.slow
def test_negatives_are_measured_beside_a_forward_pass(tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert negatives.main([*TINY, "--repetitions=2", f"--json={path}"]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == ["ResNet-10", "mosaics 4-9", "quilting 12"]
    forward = rows[0]["seconds"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["seconds"] / forward) and forward > 0
    assert "| mosaics 4-9 | " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch=0"], "--batch 0 must be at least 1"),
        (["--size=64"], "PatchMosaic.side (16, 72) must fit"),
        (["--size=80"], "Quilting.patch 96 must fit"),
        (["--side", "9", "4"], "PatchMosaic.side (9, 4)"),
        (["--patch=5"], "block 1 and patch 5 must be 1 <= overlap < block <= patch"),
    ],
)
def test_sizes_that_cannot_be_are_refused(argv, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        negatives.main(argv)
    assert message in capsys.readouterr().err
