"""The command that trains the runs of a table and prints it, continues, and refuses."""

import inspect
import json
import shutil
import signal
from pathlib import Path

import jax
import pytest

from jax_rcl import config as configs
from jax_rcl.cli import table as command
from jax_rcl.cli.shared import keep_programs
from jax_rcl.cli.table import main
from jax_rcl.train import batches
from jax_rcl.train.loop import Diverged
from jax_rcl.train.run import Run
from jax_rcl.train.signals import Interrupted
from jax_rcl.train.state import fresh_state
from tests.runs import drawn, save

TINY = Path(__file__).parents[1] / "tiny.py"
COARSE = f"""
from jax_rcl import config as configs

def get_config(arg=""):
    return configs.load("{TINY}:count=32,epochs=1")  # two steps
"""
FINE = f"""
from pathlib import Path

from jax_rcl import config as configs
from jax_rcl.config import node, override, parse, stored_config
from jax_rcl.weights.restore import Restore

def get_config(arg=""):
    start = parse(arg, start="").start
    config = configs.load("{TINY}:count=32,epochs=1")
    override(config, "seed", str(stored_config(Path(start)).seed))
    with config.unlocked():
        config.init_from = (node(Restore, start, {{"params": "params"}}),)
    return config
"""
TABLE = """
from jax_rcl.results import Column, Row, Run, Table

def get_table(arg=""):
    return Table(
        "Coarse to fine",
        runs=(
            Run("coarse", "configs/coarse.py", {"seed": "{seed}"}),
            Run("fine", "configs/fine.py:start={coarse}"),
        ),
        rows=(
            Row("plain", {"top1": ("coarse", "knn/top1")}, {"top1": 51.8}),
            Row(
                "transfer",
                {"top1": ("fine", "knn/top1"), "mean": ("fine", "knn/balanced")},
            ),
        ),
        columns=(Column("top1", "Accuracy"), Column("mean", "Of classes", "", 3)),
        seeds=(0, 1),
        note="Tiny.",
    )
"""
TRIALS = ["coarse/seed0", "fine/seed0", "coarse/seed1", "fine/seed1"]


pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A repository with a table file and the configs that it names."""
    root = tmp_path_factory.mktemp("repository")
    for path, text in {
        "configs/coarse.py": COARSE,
        "configs/fine.py": FINE,
        "configs/tables/table.py": TABLE,
    }.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.fixture
def call(place, tmp_path):
    """Runs the command on the table, changed by pairs of text, in an own workdir."""

    def call(*flags, changed=(), workdir="runs"):
        text = TABLE
        for old, new in changed:
            assert old in text
            text = text.replace(old, new)
        file = place / "configs" / "tables" / "changed.py"
        file.write_text(text)
        return main([f"--table={file}", f"--workdir={tmp_path / workdir}", *flags])

    return call


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory, one_device):
    """The workdir of a table of which one seed was trained, in one go."""
    workdir = tmp_path_factory.mktemp("whole") / "runs"
    table = place / "configs" / "tables" / "table.py"
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        assert main([f"--table={table}", f"--workdir={workdir}", "--seeds=0"]) == 0
    return workdir


@pytest.fixture
def trained(monkeypatch, no_pictures):
    """Workdirs given to `train`, which writes 0.1 more into results with every call."""
    return stand_in(monkeypatch)


def stand_in(patch):
    """Puts results instead of training; gives the workdirs it is called with."""
    calls, real = [], command.train

    def train(config, workdir):
        inspect.signature(real).bind(config, workdir)
        calls.append(str(Path(*workdir.parts[-2:])))
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "config.json").write_text(configs.to_json(config))
        numbers = {"knn/top1": 0.1 * len(calls), "knn/balanced": 0.05 * len(calls)}
        (workdir / "results.json").write_text(json.dumps({"results": numbers}))

    patch.setattr(command, "train", train)
    return calls


def results(workdir, trial):
    return json.loads((workdir / trial / "results.json").read_text())["results"]


@pytest.fixture
def cells(read_tables):
    """Cells of a printed table by the first of their line."""
    return lambda text: read_tables(f"**\n{text}").popitem()[1]


@pytest.mark.slow
def test_runs_are_trained_one_from_the_other(place, tmp_path, cells, one_device):
    table = place / "configs" / "tables" / "table.py"
    assert main([f"--table={table}", f"--workdir={tmp_path}", "--seeds=0"]) == 0
    found = cells((tmp_path / "table.md").read_text())
    coarse, fine = results(tmp_path, "coarse/seed0"), results(tmp_path, "fine/seed0")
    assert coarse["knn/top1"] != fine["knn/top1"]
    assert found["plain"] == [f"{100 * coarse['knn/top1']:.1f}", "51.8", "–"]
    assert found["transfer"][0] == f"{100 * fine['knn/top1']:.1f}"


def test_the_table_holds_what_the_runs_found(whole, cells):
    found = cells((whole / "table.md").read_text())
    assert found[""] == ["Accuracy (%)", "paper", "Of classes"]
    coarse, fine = results(whole, "coarse/seed0"), results(whole, "fine/seed0")
    assert coarse["knn/top1"] != fine["knn/top1"]
    assert found["plain"] == [f"{100 * coarse['knn/top1']:.1f}", "51.8", "–"]
    top1, balanced = 100 * fine["knn/top1"], fine["knn/balanced"]
    assert found["transfer"] == [f"{top1:.1f}", "–", f"{balanced:.3f}"]


def test_everything_is_written_down(whole):
    text = (whole / "table.md").read_text()
    assert text.startswith("**Coarse to fine**\n\n|")
    assert "One seed, 0. Tiny. Trained on 1 × cpu in 1 min; commit " in text
    assert (whole / "table.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((whole / "table.json").read_text())
    runs = {f"{run['run']}/seed{run['seed']}": run for run in record["runs"]}
    assert list(runs) == TRIALS[:2]
    for trial, run in runs.items():
        assert run["finished"] and run["numbers"] == results(whole, trial)
        assert run["seconds"] > 0 and run["versions"].startswith("jax_rcl ")
        assert {"commit", "date", "device"} <= run.keys()


def test_what_is_finished_is_not_trained_again(whole, call, tmp_path, trained, capsys):
    shutil.copytree(whole, tmp_path / "runs")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("seed*/**/*")}
    assert call("--seeds=0") == 0
    assert trained == []
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("seed*/**/*")}
    assert capsys.readouterr().out.strip() == (whole / "table.md").read_text().strip()


def test_only_what_is_missing_is_trained(whole, call, tmp_path, trained):
    shutil.copytree(whole, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs/fine/seed0")
    coarse = tmp_path / "runs/coarse/seed0"
    run = Run.prepare(configs.from_json((coarse / "config.json").read_text()), coarse)
    save(coarse, 2, drawn(run))  # to start from
    assert call("--seeds=0") == 0
    assert trained == ["fine/seed0"]


def test_seeds_share_their_program(place, monkeypatch):
    made = [
        configs.load(f"{place}/configs/coarse.py", [("seed", seed)]) for seed in "01"
    ]
    runs = [Run.prepare(each, "unused") for each in made]
    state = fresh_state(runs[0])
    texts = set()

    def compile_nothing(lowered):
        texts.add(lowered.as_text())
        return lambda *_: None

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_nothing)
    for run in runs:
        batches.compile_step(run, state, batches.place_data(run))
    assert len(texts) == 1


def test_compiled_programs_are_kept_unless_someone_keeps_them_elsewhere(tmp_path):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    keep_programs(tmp_path / "mine")
    assert before == {name: jax.config.values[name] for name in names}
    try:
        jax.config.update(names[0], None)
        keep_programs(tmp_path / "mine")
        assert jax.config.values[names[0]] == str(tmp_path / "mine")
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


# The rest needs no training.


def test_runs_are_trained_seed_after_seed_and_averaged(
    call, trained, capsys, tmp_path, cells
):
    assert call() == 0
    assert trained == TRIALS
    printed = capsys.readouterr().out
    lines = [x for x in printed.splitlines() if x.startswith("run ")]
    assert lines[0] == "run 1 of 4: coarse, seed 0"
    assert lines[3] == "run 4 of 4: fine, seed 1 (about 1 min left)"
    assert "Mean ± sample standard deviation over the seeds 0, 1. Tiny." in printed
    found = cells(printed.rpartition("**")[2])
    assert found["plain"] == ["20.0 ± 14.1", "51.8", "–"]
    assert found["transfer"] == ["30.0 ± 14.1", "–", "0.150 ± 0.071"]
    first = json.loads((tmp_path / "runs/table.json").read_text())["cells"][0]
    assert (first["row"], first["column"], first["paper"]) == ("plain", "top1", 51.8)
    assert first["deviation"] == pytest.approx(20 / 2**0.5)
    for seed in (0, 1):
        path = tmp_path / f"runs/fine/seed{seed}/config.json"
        start = json.loads(path.read_text())["init_from"][0]["workdir"]
        assert start == str(tmp_path / f"runs/coarse/seed{seed}")


def test_the_table_is_written_after_every_run(
    call, trained, monkeypatch, tmp_path, cells
):
    texts = []
    train = command.train

    def look(config, workdir):
        file = tmp_path / "runs" / "table.md"
        texts.append(cells(file.read_text()) if file.exists() else None)
        return train(config, workdir)

    monkeypatch.setattr(command, "train", look)
    assert call() == 0
    assert texts[0] is None
    assert texts[1]["plain"][0] == "10.0 (1 of 2 seeds)"
    assert texts[1]["transfer"] == ["not yet run", "–", "not yet run"]
    assert texts[3]["plain"][0] == "20.0 ± 14.1"


def test_print_trains_nothing(call, trained, capsys, tmp_path, cells):
    assert call("--print") == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert call("--seeds=0", "--rows=plain") == 0
    assert call("--print") == 0
    found = cells(capsys.readouterr().out.rpartition("**")[2])
    assert found["plain"][:2] == ["10.0 (1 of 2 seeds)", "51.8"]
    assert found["transfer"] == ["not yet run", "–", "not yet run"]
    assert trained == ["coarse/seed0"]


def test_rows_and_seeds_restrict_what_is_trained(call, trained, capsys, cells):
    assert call("--rows=transfer", "--seeds=3") == 0
    assert trained == ["coarse/seed3", "fine/seed3"]
    printed = capsys.readouterr().out
    assert "One seed, 3." in printed and "±" not in printed
    assert list(cells(printed.rpartition("**")[2])) == ["", "transfer"]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Interrupted(signal.SIGTERM, 7), 143, "SIGTERM: saved step 7"),
        (Interrupted(signal.SIGINT, 7), 130, "SIGINT: saved step 7"),
        (Diverged("the loss is nan"), 1, "Diverged: the loss is nan"),
    ],
)
def test_a_table_that_was_stopped_continues(
    call, trained, monkeypatch, capsys, tmp_path, error, status, words
):
    train = command.train

    def stopped(config, workdir):
        if trained:
            workdir.mkdir(parents=True)
            raise error
        train(config, workdir)

    monkeypatch.setattr(command, "train", stopped)
    assert call("--rows=plain") == status
    told = capsys.readouterr()
    assert words in told.err and "**" not in told.out
    facts = tmp_path / "runs/coarse/seed1/trained.json"
    before = json.loads(facts.read_text())
    facts.write_text(json.dumps(before | {"seconds": before["seconds"] + 1e6}))
    monkeypatch.setattr(command, "train", train)
    assert call("--rows=plain") == 0
    assert trained == ["coarse/seed0", "coarse/seed1"]
    assert json.loads(facts.read_text())["seconds"] > 1e6


def refused(call, capsys, trained, *flags, changed=()):
    """The message of a command that cannot work; nothing was trained."""
    assert call(*flags, changed=changed) == 2
    told = capsys.readouterr()
    assert "Traceback" not in told.err and told.err.startswith("\nConfigError: ")
    assert trained == []
    return told.err


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            (('"coarse", "knn/top1"', '"coarse", "knm/top1"'),),
            "row 'plain', column 'top1': no evaluator of run coarse, seed 0 makes "
            "'knm/top1'; there are: knn.",
        ),
        (
            (('"{seed}"}', '"{seed}", "batch_size": 64}'),),
            "run coarse, seed 0: batch_size 64 is larger than the source",
        ),
        (
            (('"{seed}"}', '"{seed}", "batch_siz": 8}'),),
            "run coarse, seed 0: --config.batch_siz: there is no 'batch_siz'",
        ),
        (
            ((', {"seed": "{seed}"}', ""),),
            "run coarse, seed 1: the config has the seed 0; write {seed} among",
        ),
        (
            (("configs/fine.py", "configs/fin.py"),),
            "run 'fine': there is no config file configs/fin.py, neither here nor in",
        ),
        ((("start={coarse}", "start={coarser}"),), "there is no run 'coarser'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(
    call, capsys, trained, tmp_path, changed, words
):
    assert words in refused(call, capsys, trained, changed=changed)
    assert not (tmp_path / "runs").exists()


def test_flags_that_cannot_be_are_refused(call, capsys, trained):
    assert "no row 'plains'" in refused(call, capsys, trained, "--rows=plains")
    assert "seeds must be different" in refused(call, capsys, trained, "--seeds=1,1")
    assert call("--seeds=one") == 2
    message = capsys.readouterr().err
    assert "argument --seeds: one must be whole numbers, as 0,1,2" in message


def test_a_number_that_a_finished_run_has_not_is_named(call, capsys, trained):
    changed = (("knn/balanced", "knn/balance"),)
    assert call(changed=changed) == 2
    assert trained == TRIALS[:2]
    told = capsys.readouterr().err
    assert "column 'mean': run fine, seed 0 has no number 'knn/balance'" in told
    assert "Did you mean 'knn/balanced'?" in told


def test_numbers_of_another_config_are_not_this_tables(call, capsys, trained):
    assert call() == 0
    trained.clear()
    changed = (('"{seed}"}', '"{seed}", "batch_size": 8}'),)
    for flags in ((), ("--print",)):
        told = refused(call, capsys, trained, *flags, changed=changed)
        assert "run coarse, seed 0: " in told and "batch_size: 16 -> 8" in told
    other = (('"{seed}"}', '"{seed}", "evaluators.knn.k": 3}'),)
    assert "knn.k: 5 -> 3" in refused(call, capsys, trained, changed=other)
    assert call(changed=(('"{seed}"}', '"{seed}", "log_every": 9}'),)) == 0
    assert trained == []


def test_what_saved_nothing_may_be_another_config(call, capsys, trained, tmp_path):
    assert call() == 0
    trained.clear()
    for trial in TRIALS:
        (tmp_path / "runs" / trial / "results.json").unlink()
    assert call(changed=(('"{seed}"}', '"{seed}", "batch_size": 8}'),)) == 0
    assert trained == TRIALS


def test_a_table_may_be_moved(call, trained, tmp_path, capsys):
    assert call() == 0
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert call(workdir="elsewhere") == 0
    assert trained == TRIALS


def test_results_that_are_damaged_are_named(call, trained, capsys, tmp_path):
    assert call() == 0
    trained.clear()
    (tmp_path / "runs/fine/seed1/results.json").write_text("{")
    assert "fine/seed1/results.json is damaged" in refused(call, capsys, trained)


def test_the_workdir_has_the_name_of_the_table_by_default(
    place, trained, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    table = place / "configs" / "tables" / "table.py"
    assert main([f"--table={table}", "--rows=plain", "--seeds=0"]) == 0
    assert (tmp_path / "runs" / "table" / "coarse" / "seed0").is_dir()
