"""Checkpoints come back as they were or not at all."""

import errno
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.checkpoint import (
    STATES,
    AnotherStructure,
    Checkpoints,
    DamagedCheckpoint,
    NotSaved,
    checksums,
    flat,
    progress,
    saved_steps,
)

# Reads that are still under way when another one fails end in a closed event loop.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def state(seed=0):
    """Leaves of every kind that a run has."""
    random = np.random.default_rng(seed)
    tree = {
        "weights": random.normal(size=(40, 30)).astype(np.float32),
        "half": jnp.asarray(random.normal(size=50), jnp.bfloat16),
        "count": np.int32(seed),
        "key": jax.random.key(seed),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 2),
        "statistics": {},
        "pair": (np.zeros(3, np.uint8), {"odd": np.array([np.nan, -0.0, 1e-42])}),
    }
    return parallel.replicate(tree, parallel.make_mesh(jax.devices()[:2]))


def template(tree, devices=2):
    whole = parallel.replicated(parallel.make_mesh(jax.devices()[:devices]))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), tree
    )


def bits(x):
    """The bytes of an array or of a random key."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x).tobytes()


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert bits(a) == bits(b)


def damage(folder):
    """Changes one byte in the middle of every file that holds arrays."""
    files = [path for path in folder.rglob("d/*") if path.is_file()]
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)


@pytest.fixture(scope="module")
def saved_three(tmp_path_factory):
    """A folder with checkpoints of steps 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("saved") / "three"
    with Checkpoints(folder, keep=5) as made:
        for step in (1, 2, 3):
            made.save(step, {"state": state(step)}, {"seconds": step / 2})
    return folder


@pytest.fixture
def three(saved_three, tmp_path):
    """A copy of them."""
    return shutil.copytree(saved_three, tmp_path / "three")


def restored(folder, **settings):
    with Checkpoints(folder, **settings) as found:
        return found.restore({"state": template(state())})


# Saving and reading.


@pytest.mark.parametrize("settings", [{}, {"keep": 5}])
def test_the_newest_comes_back_bit_for_bit_with_its_facts(three, settings):
    step, items, facts = restored(three, **settings)
    assert step == 3 and facts == {"seconds": 1.5}
    assert_same(items["state"], state(3))
    assert jax.random.key_impl(items["state"]["keys"]) == "rbg"


def test_it_comes_back_on_the_devices_that_are_asked_for(three):
    for devices in (1, 8):
        with Checkpoints(three) as found:
            _, items, _ = found.restore({"state": template(state(), devices)})
        assert len(items["state"]["weights"].devices()) == devices
        assert_same(items["state"], state(3))


def test_one_item_alone_comes_as_numpy_with_the_data_of_keys(three):
    with Checkpoints(three) as found:
        tree = found.newest("state")
    assert all(type(x) is np.ndarray for x in jax.tree.leaves(tree))
    expected = {path: bits(x) for path, x in flat(state(3)).items()}
    assert {path: x.tobytes() for path, x in flat(tree).items()} == expected


def test_only_the_newest_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as made:
        for step in (1, 2, 10):
            made.save(step, {"x": {"y": np.arange(3)}})
        made.wait()
        assert made.steps() == [2, 10]


def test_some_are_kept_for_ever(tmp_path):
    with Checkpoints(tmp_path, keep=1, keeps=lambda step: step % 4 == 0) as made:
        for step in range(1, 11):
            made.save(step, {"x": {"y": np.full(3, step, np.int32)}})
        made.wait()
        assert made.steps() == [4, 8, 10]
        assert made.newest("x", 4)["y"].tolist() == [4, 4, 4]
        with pytest.raises(ValueError, match=r"no checkpoint of step 5.*4, 8, 10"):
            made.newest("x", 5)
    assert saved_steps(tmp_path.parent, 8) == []


def test_what_cannot_be_written_is_one_sentence_with_the_newest_whole_one(
    tmp_path, monkeypatch, caplog
):
    """Writing takes place in threads, so that the error comes later."""

    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(NotSaved) as told:
        with Checkpoints(tmp_path / "x", keep=5) as made:
            made.save(1, {"x": {"y": np.arange(3)}})
            made.wait()
            monkeypatch.setattr(os, "rename", full)
            monkeypatch.setattr(Path, "rename", full)
            made.save(2, {"x": {"y": np.arange(3)}})
            made.save(3, {"x": {"y": np.arange(3)}})
    assert str(told.value) == (
        f"the checkpoint of step 2 could not be written to {tmp_path / 'x'}: No "
        "space left on device. The newest is of step 1. Once this is mended, the same "
        "command continues from there."
    )
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["1"]
    assert not [x for x in caplog.records if x.levelname == "ERROR"]


def test_an_error_on_its_way_is_more_important_than_that_of_saving(
    tmp_path, monkeypatch, caplog
):
    def full(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ZeroDivisionError):
        with Checkpoints(tmp_path, keep=1) as made:
            monkeypatch.setattr(made._manager, "wait_until_finished", lambda: full(0))
            raise ZeroDivisionError
    assert "No space left on device" in caplog.text


def test_a_step_that_is_saved_stays_as_it_is(three):
    with Checkpoints(three, keep=5) as found:
        found.save(3, {"state": state(9)})
    assert_same(restored(three)[1]["state"], state(3))


def test_what_was_handed_over_may_be_given_up_at_once(tmp_path):
    x = jax.device_put(np.arange(100_000, dtype=np.float32), parallel.here())
    with Checkpoints(tmp_path, keep=1) as made:
        made.save(1, {"x": {"y": x}})
        jax.block_until_ready(jax.jit(lambda x: x * 0, donate_argnums=0)(x))
        made.wait()
        np.testing.assert_array_equal(made.newest("x")["y"], np.arange(100_000))


def test_there_may_be_none(tmp_path):
    assert restored(tmp_path / "new", keep=1) is None
    with Checkpoints(tmp_path / "new") as found:
        assert found.steps() == []
        with pytest.raises(ValueError, match="new holds no finished checkpoint"):
            found.newest("state")


def test_facts_come_without_the_arrays(three):
    damage(three / "3" / "state")
    with Checkpoints(three) as found:
        assert found.newest_facts() == (3, {"seconds": 1.5})
    with Checkpoints(three / "nothing") as found:
        assert found.newest_facts() is None


def test_how_far_a_run_was_saved_is_known_from_its_files(tmp_path):
    with pytest.raises(ValueError, match="holds no finished checkpoint"):
        progress(tmp_path)
    with Checkpoints(tmp_path / STATES, keep=2) as made:
        made.save(1, {"x": {"y": np.arange(3)}})
        made.wait()
        assert progress(tmp_path) == (1, None)
        made.save(2, {"x": {"y": np.arange(3)}}, {"total_steps": 5})
        made.wait()
        assert progress(tmp_path) == (2, 5)


# Damage.


def test_facts_that_are_damaged_are_an_error_that_names_the_checkpoint(three):
    (three / "3" / "meta" / "metadata").write_text("{")
    with Checkpoints(three) as found:
        with pytest.raises(DamagedCheckpoint, match=r"checkpoint \S+/3 is damaged"):
            found.newest_facts()


def test_a_changed_byte_is_noticed_and_the_one_before_used(three, caplog):
    damage(three / "3" / "state")
    step, items, _ = restored(three, keep=5)
    assert step == 2
    assert_same(items["state"], state(2))
    assert f"checkpoint {three / '3'} is damaged" in caplog.text
    assert (three / "damaged-3").is_dir() and not (three / "3").exists()
    with Checkpoints(three, keep=5) as found:
        assert found.steps() == [1, 2]
        found.save(3, {"state": state(3)}, {"seconds": 0})
    assert restored(three)[0] == 3
    damage(three / "3" / "state")
    assert restored(three, keep=5)[0] == 2


def test_an_array_that_differs_from_its_checksum_is_named(three):
    meta = three / "3" / "meta" / "metadata"
    written = checksums({"state": state(3)})["state/weights"]
    text = meta.read_text()
    assert str(written) in text
    meta.write_text(text.replace(str(written), str(written + 1)))
    with Checkpoints(three) as found:
        with pytest.raises(DamagedCheckpoint, match="checksum of state/weights does"):
            found.newest("state")


def test_who_only_reads_leaves_a_damaged_one_where_it_is(three, caplog):
    damage(three / "3" / "state")
    assert restored(three)[0] == 2
    assert "is damaged" in caplog.text
    assert (three / "3").is_dir()


def test_without_a_whole_one_there_is_an_error_that_names_them(three):
    for step in (1, 2, 3):
        damage(three / str(step) / "state")
    with pytest.raises(DamagedCheckpoint, match=r"none of the .*\[1, 2, 3\].*workdir"):
        restored(three, keep=5)


def test_who_only_reads_leaves_alone_what_another_program_is_writing(three, caplog):
    writing = three / "4.orbax-checkpoint-tmp"
    (writing / "state").mkdir(parents=True)
    with Checkpoints(three) as found:
        assert found.steps() == [1, 2, 3]
    assert restored(three)[0] == 3
    assert (writing / "state").is_dir()
    assert not [x for x in caplog.records if x.name.startswith("jax_rcl")]


def test_who_writes_names_what_a_killed_run_left(three, caplog):
    (three / "4.orbax-checkpoint-tmp").mkdir()
    assert restored(three, keep=5)[0] == 3
    assert "4.orbax-checkpoint-tmp was not finished" in caplog.text


def test_when_none_can_be_read_they_stay_as_they_are(three, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_read", fails)
        for _ in range(2):
            with pytest.raises(DamagedCheckpoint, match=r"none of the checkpoints \["):
                restored(three, keep=5)
    assert restored(three, keep=5)[0] == 3


def test_other_arrays_are_no_damage(three):
    asked = {"state": {"other": jax.ShapeDtypeStruct((2,), np.float32)}}
    with Checkpoints(three, keep=5) as saved:
        with pytest.raises(AnotherStructure, match=r"\+ other \(2,\)"):
            saved.restore(asked)
        assert saved.steps() == [1, 2, 3]


def test_an_error_of_all_processes_waits_for_nothing(tmp_path, monkeypatch):
    def wait(self):
        raise AssertionError("nobody comes to where it waits")

    monkeypatch.setattr(Checkpoints, "wait", wait)
    monkeypatch.setattr(parallel, "ends_everywhere", lambda error: error is not None)
    with pytest.raises(ZeroDivisionError), Checkpoints(tmp_path, keep=1):
        raise ZeroDivisionError
