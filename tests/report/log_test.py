"""The record of a run survives kills and resumes, and TensorBoard can read it."""

import json
import math

import numpy as np
import pytest

from jax_rcl.report import log
from jax_rcl.report.log import Log


def lines(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


def events(folder):
    module = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    accumulator = module.EventAccumulator(
        str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0}
    )
    accumulator.Reload()
    return accumulator


def test_every_write_is_one_json_object_with_its_step_first(tmp_path):
    with Log(tmp_path) as out:
        out.write(1, {"train/loss": 2.5, "a": np.float32(0.25)})
        out.write(2, {"train/loss": 0.1})
    assert lines(tmp_path) == [
        '{"step": 1, "a": 0.25, "train/loss": 2.5}',
        '{"step": 2, "train/loss": 0.1}',
    ]


def test_a_line_is_on_disk_once_written(tmp_path):
    with Log(tmp_path) as out:
        out.write(1, {"a": 1.0})
        assert log.read(tmp_path) == [{"step": 1, "a": 1.0}]


def test_without_a_file_the_record_is_empty(tmp_path):
    assert log.read(tmp_path) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_is_null_in_the_file_and_nan_when_read(tmp_path, value):
    with Log(tmp_path) as out:
        out.write(1, {"train/loss": value})
    assert json.loads(lines(tmp_path)[0]) == {"step": 1, "train/loss": None}
    assert math.isnan(log.read(tmp_path)[0]["train/loss"])


def test_resuming_drops_later_lines_and_keeps_the_others_byte_for_byte(tmp_path):
    with Log(tmp_path) as out:
        for step in range(1, 6):
            out.write(step, {"train/loss": step / 3, "nothing": math.nan})
    before = lines(tmp_path)
    with Log(tmp_path, resume_step=3) as out:
        assert lines(tmp_path) == before[:3]
        out.write(4, {"train/loss": 4 / 3, "nothing": math.nan})
    assert lines(tmp_path) == before[:4]
    assert not list(tmp_path.glob("*.new"))


def test_some_numbers_of_a_step_can_be_forgotten(tmp_path):
    log.forget(tmp_path, 2, ("a/",))  # where there is no record
    with Log(tmp_path) as out:
        out.write(1, {"a/x": 1.0})
        out.write(2, {"a/x": 1.0, "ab": 2.0})
        out.write(2, {"a/y": 1.0})
    log.forget(tmp_path, 2, ("a/",))
    assert lines(tmp_path) == ['{"step": 1, "a/x": 1.0}', '{"step": 2, "ab": 2.0}']


def test_a_new_run_forgets_an_old_one(tmp_path):
    with Log(tmp_path) as out:
        out.write(1, {"a": 1.0})
    with Log(tmp_path):
        assert log.read(tmp_path) == []


@pytest.mark.parametrize("torn", ['{"step": 2, "tr', '{"step": 2, "a": 1.0}', "\xff"])
def test_a_last_line_without_its_end_is_ignored_and_then_dropped(tmp_path, torn):
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"step": 1, "a": 0.5}\n' + torn.encode("latin-1")
    )
    assert log.read(tmp_path) == [{"step": 1, "a": 0.5}]
    with Log(tmp_path, resume_step=9) as out:
        out.write(10, {"a": 1.5})
    assert lines(tmp_path) == ['{"step": 1, "a": 0.5}', '{"step": 10, "a": 1.5}']


@pytest.mark.parametrize("damaged", ["{", "3", '{"a": 1}', '{"step": "1"}', ""])
def test_damage_before_the_last_line_is_an_error_with_its_place(tmp_path, damaged):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1}\n' + damaged + '\n{"step": 3}\n'
    )
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        log.read(tmp_path)


def test_the_name_step_is_taken(tmp_path):
    with Log(tmp_path) as out, pytest.raises(ValueError, match="train/step"):
        out.write(1, {"step": 1.0})


def test_closing_twice_is_harmless(tmp_path):
    out = Log(tmp_path)
    out.write(1, {"a": 2.0})
    out.close()
    out.close()
    assert log.read(tmp_path) == [{"step": 1, "a": 2.0}]


def test_tensorboard_reads_numbers_images_and_texts(tmp_path):
    image = np.linspace(0, 1, 27, dtype=np.float32).reshape(3, 3, 3)
    with Log(tmp_path) as out:
        out.write(7, {"train/loss": 1.5})
        out.write_images(7, {"seen": image, "gray": np.zeros((4, 5, 1), np.uint8)})
        out.write_text(7, {"config": "hello"})
    read = events(tmp_path)
    assert [(e.step, e.value) for e in read.Scalars("train/loss")] == [(7, 1.5)]
    assert (read.Images("gray")[0].width, read.Images("gray")[0].height) == (5, 4)
    text = read.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    assert text == b"hello"


def test_tensorboard_hides_what_a_resumed_run_does_again(tmp_path):
    with Log(tmp_path) as out:
        for step in (1, 2, 3):
            out.write(step, {"a": 1.0 * step})
    # Within the same second: the second file must not replace the first.
    with Log(tmp_path, resume_step=2) as out:
        out.write(3, {"a": 30.0})
    scalars = events(tmp_path).Scalars("a")
    assert [(e.step, e.value) for e in scalars] == [(1, 1.0), (2, 2.0), (3, 30.0)]
