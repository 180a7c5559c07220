"""The benchmark measures what it says, and says what it measured."""

import json
from pathlib import Path

import pytest

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.cli import bench
from jax_rcl.config.overrides import override
from jax_rcl.config.types import ConfigError
from jax_rcl.train import cost

TINY = str(Path(__file__).parents[1] / "tiny.py")


pytestmark = pytest.mark.usefixtures("one_device")


def tiny(**fields):
    made = configs.load(TINY)
    for path, value in fields.items():
        override(made, path, str(value))
    return made


@pytest.mark.parametrize(
    ("steps_per_call", "timed"),
    [(1, 5), pytest.param(3, 6, marks=pytest.mark.slow)],
)
def test_a_measurement_is_of_so_many_steps_and_consistent(steps_per_call, timed):
    made = tiny(steps_per_call=steps_per_call)
    before = configs.to_json(made)
    found = bench.measure(made, steps=5, warmup=2)
    assert configs.to_json(made) == before
    assert found.steps == timed and found.steps_per_call == steps_per_call
    assert (found.devices, found.batch_size, found.resident) == (1, 16, True)
    assert found.device == parallel.device_name()
    assert 0 <= found.data_wait <= 1
    assert found.step_seconds > 0 and found.compile_seconds > 0
    assert found.examples_per_second == pytest.approx(16 / found.step_seconds)
    assert found.peak_bytes > 2**20 and found.flops_per_step > 0
    assert found.fraction_of_peak is None


def test_the_last_line_is_json_of_the_table_with_the_share_of_a_known_peak(
    capsys, monkeypatch
):
    monkeypatch.setattr(bench, "peak_flops", lambda: 1e12)
    status = bench.main([f"--config={TINY}", "--steps=5", "--warmup=2"])
    *table, last = capsys.readouterr().out.strip().splitlines()
    assert status == 0
    found = bench.Measurement(**json.loads(last))
    assert found.steps == 5
    assert bench.table(found).splitlines() == table[-11:]
    expected = found.flops_per_step / found.step_seconds / 1e12
    assert found.fraction_of_peak == pytest.approx(expected)
    printed = "\n".join(table)
    assert f"{found.examples_per_second:,.0f}" in printed
    assert f"{100 * expected:.1f} %" in printed


@pytest.mark.parametrize(
    ("steps", "warmup", "steps_per_call"), [(11, 2, 1), (5, 1, 12), (7, 5, 4)]
)
def test_a_run_too_short_to_time_is_an_error(steps, warmup, steps_per_call):
    words = f"12 steps, fewer than the {warmup} to warm up and {steps} to time"
    with pytest.raises(ConfigError, match=words):
        bench.measure(tiny(steps_per_call=steps_per_call), steps=steps, warmup=warmup)


def test_an_error_is_one_message_and_status_two(capsys):
    assert bench.main([f"--config={TINY}", "--steps=100"]) == 2
    assert capsys.readouterr().err.startswith("\nConfigError: the run has 12 steps")
    assert bench.main([f"--config={TINY}", "--stps=100"]) == 2
    assert "unknown argument --stps=100" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("Tesla V100-SXM2-16GB", 125e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", None),
        ("Tesla T4", 65e12),
        ("NVIDIA GH200 480GB", None),
        ("TPU v3", 61.5e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v5 lite", 197e12),
        ("TPU v6 lite", 918e12),
        ("cpu", None),
    ],
)
def test_the_peak_is_that_of_the_whole_name(monkeypatch, name, peak):
    monkeypatch.setattr(parallel, "device_name", lambda: name)
    assert cost.peak_flops() == peak
