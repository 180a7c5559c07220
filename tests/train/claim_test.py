"""What a workdir lets change, and what it refuses before anything is written."""

import shutil

import numpy as np
import pytest
from PIL import Image

from jax_rcl import config as configs
from jax_rcl.augment.compose import Views
from jax_rcl.augment.distortions.levels import Curriculum
from jax_rcl.augment.distortions.pixelwise import GaussianNoise
from jax_rcl.checkpoint import BEST, FROZEN, STATES, Checkpoints
from jax_rcl.config import node, override
from jax_rcl.config.experiment import Best
from jax_rcl.config.types import ConfigError
from jax_rcl.config.workdir import stored_config
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.sources import Npz
from jax_rcl.evaluate.when import Every
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import Constant, Cosine, EpochCosine, MultiStep
from jax_rcl.report import log
from jax_rcl.train.claim import claim, keep_length, set_aside, warn_of_data
from jax_rcl.train.facts import remember_measured
from jax_rcl.train.run import Run
from tests.train.shared import mesh, tiny


def claimed(config, workdir):
    """A run that has claimed its workdir."""
    run = keep_length(Run.prepare(config, workdir, mesh()))
    claim(run)
    return run


def saved(config, workdir, step=4, **facts):
    """A workdir with a checkpoint, of which only facts matter here."""
    run = claimed(config, workdir)
    plan = run.plan
    known = {
        "total_steps": plan.total_steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "data": run.data,
    }
    with Checkpoints(workdir / STATES, keep=1) as checkpoints:
        checkpoints.save(step, {"x": {"y": np.arange(3)}}, known | facts)
    return workdir


def files(workdir):
    return {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}


def refused(config, workdir, words):
    """The message; nothing in the workdir has changed."""
    before = files(workdir)
    with pytest.raises(ConfigError, match=words) as told:
        claimed(config, workdir)
    assert files(workdir) == before
    return str(told.value)


@pytest.fixture(scope="module")
def cosine(tmp_path_factory):
    """The workdir of the tiny config, whose schedule is a cosine."""
    return saved(tiny(), tmp_path_factory.mktemp("cosine") / "run")


@pytest.fixture
def run(cosine, tmp_path):
    """A copy of it."""
    return shutil.copytree(cosine, tmp_path / "run")


# The config.


def test_until_the_first_checkpoint_a_workdir_may_become_anothers(tmp_path, caplog):
    claimed(tiny(), tmp_path)
    for folder in (FROZEN, BEST):
        (tmp_path / folder).mkdir()
    with log.Log(tmp_path) as lines:
        lines.write(0, {"knn/top1": 0.5})
    claimed(tiny("batch_size=8"), tmp_path)
    assert "saved nothing; it is begun anew" in caplog.text
    assert stored_config(tmp_path).batch_size == 8
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", ["results.json", "report/index.html"])
def test_a_finished_run_without_its_checkpoints_is_not_trained_anew(tmp_path, name):
    claimed(tiny(), tmp_path)
    (tmp_path / "report").mkdir()
    (tmp_path / name).write_text("{}")
    told = refused(tiny("batch_size=8"), tmp_path, "batch_size: 16 -> 8")
    assert "Restore" not in told
    for _ in range(2):
        told = refused(tiny(), tmp_path, f"is finished, as {name} there says, but its")
        assert "Put checkpoints/ back, or choose another --workdir" in told


def best_saved(workdir, step=4, **facts):
    with Checkpoints(workdir / BEST, keep=1) as checkpoints:
        checkpoints.save(step, {"x": {"y": np.arange(3)}}, {"value": 0.5} | facts)


def test_a_best_state_without_checkpoints_is_still_a_run(tmp_path):
    claimed(tiny(), tmp_path)
    best_saved(tmp_path)
    told = refused(tiny("batch_size=8"), tmp_path, "batch_size: 16 -> 8")
    assert told.endswith(', which="best"),).')
    claimed(tiny(), tmp_path)
    assert (tmp_path / BEST / "4").exists()


def test_the_best_state_of_a_finished_run_cannot_be_chosen_afterwards(tmp_path):
    saved(tiny(), tmp_path, step=12)
    top = tiny(best=node(Best, "knn/top1"))
    for _ in range(2):
        told = refused(top, tmp_path, "best: the run in .* is finished.* kept none")
        assert "Leave best as it was, or train with it in another --workdir" in told
    best_saved(tmp_path, chosen_by=["knn/top1", "max", "a vote"])
    claimed(top, tmp_path)
    claimed(tiny(), tmp_path)  # without it, and with it again
    claimed(top, tmp_path)
    other = tiny(best=node(Best, "knn/top1", "min"))
    refused(other, tmp_path, "kept the one of knn/top1, max")


def test_it_can_where_the_run_becomes_longer(tmp_path):
    saved(with_schedule(node(Constant)), tmp_path, step=12)
    longer = with_schedule(node(Constant), "epochs=5", best=node(Best, "knn/top1"))
    claimed(longer, tmp_path)
    assert stored_config(tmp_path).best.monitor == "knn/top1"


def test_from_then_on_it_is_bound_and_the_message_says_how_to_go_on(run):
    told = refused(tiny("batch_size=8"), run, r"differ.*\n  batch_size: 16 -> 8\n")
    words = f'init_from=(node(Restore, "{run}", {{"params": "params", "memory":'
    assert words in told


def test_what_changes_no_number_may_change_and_is_stored(run, caplog):
    made = tiny(
        threads="3",
        resident="never",
        keep="1",
        keep_every="2",
        log_every="7",
        steps_per_call="2",
        save_every=node(Every, epochs=1),
    )
    claimed(made, run)
    assert configs.differences(stored_config(run), made) == []
    assert caplog.records == []


def test_evaluators_may_change(run):
    made = tiny()
    override(made, "evaluators.knn.k", "3")
    claimed(made, run)
    assert stored_config(run).evaluators.knn.k == 3
    made = tiny()
    with made.unlocked():
        made.evaluators = {}
    claimed(made, run)
    assert not stored_config(run).evaluators


def test_a_config_that_is_none_of_ours_is_left_alone(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 768}')
    refused(tiny(), tmp_path, "not the config of an experiment")


def test_of_a_finished_run_other_evaluators_are_to_be_run(tmp_path):
    saved(tiny(), tmp_path, step=12)
    with log.Log(tmp_path, 12) as lines:
        lines.write(8, {"knn/top1": 0.5})
        lines.write(12, {"knn/top1": 0.5, "train/loss": 1.0})
    for name in ("results.json", "report/index.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    claimed(tiny(log_every="3"), tmp_path)
    assert (tmp_path / "results.json").exists()
    made = tiny()
    override(made, "evaluators.knn.k", "3")
    claimed(made, tmp_path)
    assert (tmp_path / "results-1.json").read_text() == "old"
    assert (tmp_path / "report" / "index-1.html").read_text() == "old"
    assert not (tmp_path / "results.json").exists()
    assert log.read(tmp_path) == [
        {"step": 8, "knn/top1": 0.5},
        {"step": 12, "train/loss": 1.0},
    ]


def test_a_file_is_put_aside_under_the_first_free_name(tmp_path):
    assert set_aside(tmp_path / "a.json") is None
    for number in (1, 2):
        (tmp_path / "a.json").write_text(str(number))
        assert set_aside(tmp_path / "a.json") == tmp_path / f"a-{number}.json"
    assert (tmp_path / "a-1.json").read_text() == "1"


# The length.


def with_schedule(schedule, arg="", **fields):
    return tiny(arg, optimizer=node(Sgd, 0.02, schedule=schedule), **fields)


@pytest.mark.parametrize(
    "schedule",
    [
        node(Constant),
        node(Constant, warmup_epochs=0.5),
        node(MultiStep, (1, 4)),
        node(EpochCosine, period=5.0),
    ],
)
def test_a_schedule_that_does_not_know_the_length_can_be_extended(tmp_path, schedule):
    saved(with_schedule(schedule), tmp_path, step=12)
    claimed(with_schedule(schedule, "epochs=5"), tmp_path)
    assert stored_config(tmp_path).epochs == 5


@pytest.mark.parametrize(
    ("schedule", "name"),
    [(node(Cosine), "Cosine"), (node(EpochCosine), "EpochCosine")],
)
def test_one_that_does_cannot_and_the_message_says_why(tmp_path, schedule, name):
    saved(with_schedule(schedule), tmp_path, step=12)
    words = rf"12 of 12 steps and cannot become one of 20: {name} depends on the length"
    told = refused(with_schedule(schedule, "epochs=5"), tmp_path, words)
    assert "Constant or MultiStep, can be extended" in told and "Restore" in told


def test_a_run_that_has_made_no_update_may_have_any_length(tmp_path):
    saved(tiny(), tmp_path, step=0)
    claimed(tiny("epochs=5"), tmp_path)


def test_the_same_length_in_other_words_is_the_same(run):
    made = tiny()
    with made.unlocked():
        made.epochs, made.steps = None, 12
    claimed(made, run)


def test_a_run_can_become_shorter_but_not_than_it_is(tmp_path):
    saved(with_schedule(node(Constant)), tmp_path, step=8)
    refused(
        with_schedule(node(Constant), "epochs=1"),
        tmp_path,
        "has made 8 of 12 steps and cannot become one of 4, which are fewer",
    )
    claimed(with_schedule(node(Constant), "epochs=2"), tmp_path)


def test_the_command_of_a_shorter_run_finds_the_longer_one_finished(tmp_path, caplog):
    saved(with_schedule(node(Constant)), tmp_path, step=12)
    run = claimed(with_schedule(node(Constant), "epochs=1", keep="1"), tmp_path)
    assert run.plan.total_steps == 12 and run.experiment.keep == 1
    assert "has made 12 steps, more than the 4 asked for" in caplog.text
    assert stored_config(tmp_path).epochs == 3
    saved(tiny(), tmp_path / "cosine", step=12)
    refused(tiny("epochs=1"), tmp_path / "cosine", "Cosine depends on the length")


def test_a_curriculum_is_of_one_length(tmp_path):
    def made(epochs):
        config = with_schedule(node(Constant), f"epochs={epochs}")
        with config.unlocked():
            noise = node(GaussianNoise, (0.1, 0.5))
            config.augment = node(Views, noise, curriculum=node(Curriculum, 3))
        return config

    saved(made(3), tmp_path, step=12)
    refused(made(5), tmp_path, "depends on how far the run is, as a curriculum does")


def test_what_a_longer_run_replaces_is_kept_under_other_names(tmp_path):
    saved(with_schedule(node(Constant)), tmp_path, step=12)
    (tmp_path / "results.json").write_text("old")
    claimed(with_schedule(node(Constant), "epochs=5"), tmp_path)
    assert (tmp_path / "results-1.json").read_text() == "old"


# The data.


def folder(root, classes="ab", images=8):
    """A folder of images, a class each letter."""
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name / f"{number}.png")
    return root


def of_folder(root, **settings):
    """The tiny config on a folder, eight images a batch, without evaluators."""
    made = with_schedule(node(Constant), "batch_size=8")
    with made.unlocked():
        made.source = node(ImageFolder, str(root), size=8, **settings)
        made.evaluators = {}
    return made


@pytest.fixture
def images(tmp_path):
    return folder(tmp_path / "images")


def test_images_that_were_added_or_removed_are_noticed(images, tmp_path):
    run = saved(of_folder(images), tmp_path / "run")
    folder(images, images=9)
    words = r"since step 4 was saved in .*: 18 records now, 16 then"
    told = refused(of_folder(images), run, words)
    assert "Put them back as they were" in told
    for name in "ab":
        for number in (8, 7):
            (images / name / f"{number}.png").unlink()
    refused(of_folder(images), run, "14 records now, 16 then")
    folder(images)
    claimed(of_folder(images), run)
    (images / "a" / "0.png").rename(images / "a" / "00.png")
    refused(of_folder(images), run, "other files")


def test_also_by_a_finished_run(images, tmp_path):
    folder(images, images=12)
    run = saved(of_folder(images), tmp_path / "run", step=9)
    for number in range(8, 12):
        (images / "a" / f"{number}.png").unlink()
    refused(of_folder(images), run, "20 records now, 24 then")


def test_a_new_class_is_noticed_also_if_there_are_no_more_images(images, tmp_path):
    run = saved(of_folder(images), tmp_path / "run")
    (images / "aa").mkdir()
    (images / "a" / "0.png").rename(images / "aa" / "0.png")
    refused(of_folder(images), run, "new class 'aa'")
    shutil.rmtree(images / "aa")
    (images / "b").rename(images / "c")
    refused(of_folder(images), run, "new class 'c'; gone class 'b'")


def test_who_says_that_damaged_images_are_skipped_goes_on_without_them(
    images, tmp_path, caplog
):
    folder(images, images=9)  # 18 are two batches of 8, as 17 are
    run = saved(of_folder(images), tmp_path / "run")
    (images / "a" / "0.png").write_bytes(b"damaged")
    for _ in range(2):  # also if it was killed before its next checkpoint
        caplog.clear()
        claimed(of_folder(images, unreadable="skip"), run)
        assert "17 records now, 18 then. It goes on with them" in caplog.text


def test_images_that_are_gone_are_not_skipped(images, tmp_path):
    folder(images, images=10)  # 20 are two batches of 8, as 18 are
    run = saved(of_folder(images), tmp_path / "run")
    (images / "a" / "0.png").write_bytes(b"damaged")
    claimed(of_folder(images, unreadable="skip"), run)
    (images / "a" / "1.png").unlink()
    refused(of_folder(images, unreadable="skip"), run, "18 records now, 20 then")


def test_skipping_may_not_change_the_length_of_an_epoch(images, tmp_path):
    run = saved(of_folder(images), tmp_path / "run")
    (images / "a" / "0.png").write_bytes(b"damaged")
    refused(of_folder(images, unreadable="skip"), run, "15 records now, 16 then")


def test_skipping_where_all_can_be_read_changes_nothing(images, tmp_path, caplog):
    run = saved(of_folder(images), tmp_path / "run")
    claimed(of_folder(images, unreadable="skip"), run)
    assert caplog.records == []


def of_npz(path, images, labels):
    """The tiny config on an `.npz`, also tested on it."""
    test = path.with_name(f"test-{path.name}")
    for file in (path, test):
        np.savez(file, image=images.astype(np.uint8), label=labels)
    made = with_schedule(node(Constant), "batch_size=8")
    with made.unlocked():
        made.source = node(Npz, str(path))
        made.evaluators.knn.train = made.source
        made.evaluators.knn.test = node(Npz, str(test))
    return made


def test_arrays_that_were_written_again_with_other_contents_are_noticed(
    tmp_path, caplog
):
    images, labels = np.arange(32 * 64).reshape(32, 8, 8) % 255, np.arange(32) % 2
    path = tmp_path / "a.npz"
    run = saved(of_npz(path, images, labels), tmp_path / "run")
    claimed(of_npz(path, images, labels), run)
    other = of_npz(path, images, 1 - labels)
    refused(other, run, "have changed since.*: other labels")
    warn_of_data(Run.prepare(other, run, mesh()), stored_config(run))  # to evaluate it
    assert "training data are others than at step 4: other labels." in caplog.text
    told = refused(of_npz(path, images + 1, labels), run, "other images. Labels, order")
    assert "data of evaluator" not in told and "'knn' are others" in caplog.text


def test_data_may_move_if_they_are_the_same(images, tmp_path):
    run = saved(of_folder(images), tmp_path / "run")
    moved = images.rename(tmp_path / "moved")
    claimed(of_folder(moved), run)
    assert stored_config(run).source.folder == str(moved)
    for path in moved.rglob("*.png"):
        Image.new("RGB", (8, 8), (0, 0, 255)).save(path)
    again = moved.rename(images)
    refused(of_folder(again), run, "since step 4 was saved in .*: other images")


def test_of_a_checkpoint_that_does_not_tell_the_data_from_others_they_may_not(
    images, tmp_path
):
    run = claimed(of_folder(images), tmp_path / "run")
    del run.data["train"]["sample"]
    saved(of_folder(images), run.workdir, data=run.data)
    claimed(of_folder(images), run.workdir)
    moved = images.rename(tmp_path / "moved")
    refused(of_folder(moved), run.workdir, r"differ.*\n  source\.folder: ")


def test_a_finished_run_is_not_evaluated_anew_on_the_same_data_in_another_place(
    tmp_path,
):
    images, labels = np.arange(32 * 64).reshape(32, 8, 8) % 255, np.arange(32) % 2
    run = saved(of_npz(tmp_path / "a.npz", images, labels), tmp_path / "run", step=12)
    (run / "results.json").write_text("old")
    with log.Log(run, 12) as lines:
        lines.write(12, {"knn/top1": 0.5})
    claimed(of_npz(tmp_path / "b.npz", images, labels), run)
    assert (run / "results.json").exists()
    other = of_npz(tmp_path / "c.npz", images, labels)
    np.savez(tmp_path / "test-c.npz", image=images.astype(np.uint8), label=1 - labels)
    claimed(other, run)
    assert (run / "results-1.json").read_text() == "old"
    assert log.read(run) == []


def evaluate_knn(run, step=12):
    """Leaves numbers behind as the loop does, of the data that there are now."""
    remember_measured(run.workdir, step, run.data["evaluators"])
    with log.Log(run.workdir, step) as lines:
        lines.write(step, {"knn/top1": 0.5})


def is_due(workdir):
    """Whether the evaluator is to run: its numbers are gone, its results put aside."""
    gone = not any("knn/top1" in line for line in log.read(workdir))
    assert gone != (workdir / "results.json").exists()
    return gone


def test_numbers_of_a_finished_run_are_compared_with_the_data_that_they_are_of(
    tmp_path, caplog
):
    images, labels = np.arange(32 * 64).reshape(32, 8, 8) % 255, np.arange(32) % 2
    made = {x: of_npz(tmp_path / f"{x}.npz", images, labels) for x in "abc"}
    np.savez(tmp_path / "test-b.npz", image=images.astype(np.uint8), label=1 - labels)
    workdir = saved(made["a"], tmp_path / "run", step=12)
    evaluate_knn(claimed(made["a"], workdir))
    told = "its numbers from before are not of these"
    # c has the data of a. Neither checkpoint nor its facts change any more.
    for place, due in (("b", True), ("b", False), ("a", True), ("c", False)):
        (workdir / "results.json").write_text("old")
        caplog.clear()
        run = claimed(made[place], workdir)
        assert is_due(workdir) == due
        assert (told in caplog.text) == due
        if due:
            evaluate_knn(run)


def test_a_run_killed_before_it_measured_other_data_measures_the_first_again(tmp_path):
    images, labels = np.arange(32 * 64).reshape(32, 8, 8) % 255, np.arange(32) % 2
    made = {x: of_npz(tmp_path / f"{x}.npz", images, labels) for x in "ab"}
    np.savez(tmp_path / "test-b.npz", image=images.astype(np.uint8), label=1 - labels)
    workdir = saved(made["a"], tmp_path / "run", step=12)
    evaluate_knn(claimed(made["a"], workdir))
    (workdir / "results.json").write_text("old")
    run = claimed(made["b"], workdir)
    remember_measured(workdir, 12, run.data["evaluators"])  # killed before the log
    for place in "ba":
        claimed(made[place], workdir)
        assert is_due(workdir)


def test_a_run_from_before_this_was_stored_notices_a_longer_epoch(images, tmp_path):
    run = saved(of_folder(images), tmp_path / "run", step=6)
    with Checkpoints(run / STATES, keep=1) as checkpoints:
        checkpoints.save(7, {"x": {"y": np.arange(3)}}, {"total_steps": 6})
    folder(images, images=12)
    refused(of_folder(images), run, "an epoch has 3 steps, and had 2")


def test_test_data_that_changed_are_told(run, caplog, monkeypatch):
    described = Run.data.func

    def grown(self):
        found = described(self)
        found["evaluators"]["knn"][1]["count"] = 21
        return found

    monkeypatch.setattr(Run, "data", property(grown))
    claimed(tiny(), run)
    assert "data of evaluator 'knn' are others than at step 4" in caplog.text
    assert "21 records now, 20 then" in caplog.text
