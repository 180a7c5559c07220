"""Config files: what they import, their options, and errors that name a file."""

import re
import sys
import threading

import pytest

from jax_rcl import config
from jax_rcl.config import ConfigError, build
from jax_rcl.config.files import run_file
from jax_rcl.networks.heads import Linear
from jax_rcl.ranges import AtLeast, Within

MADE = """
from jax_rcl.config import node, parse
from jax_rcl.networks.heads import Linear
def get_config(arg=""):
    return node(Linear, parse(arg, width=3).width)
"""


@pytest.fixture
def write(tmp_path):
    """Writes files by name, and checks that imports are as before after the test."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return str(path)

    before = list(sys.path), list(sys.meta_path), sys.modules.get("common")
    yield write
    assert (sys.path, sys.meta_path, sys.modules.get("common")) == before


def test_load_reads_a_file_with_options_and_overrides(write):
    file = write(made=MADE)
    assert build(config.load(f"{file}:width=5")) == Linear(5)
    assert build(config.load(file, [("features", "8")])) == Linear(8)
    with pytest.raises(ConfigError, match=r"no config file .*mode\.py.*Did you mean"):
        config.load(file.replace("made", "mode"))
    with pytest.raises(ConfigError, match=r"made\.py defines no get_table\(arg=''\)"):
        run_file(file, "table")


READS = "from common import VALUE\ndef get_config(arg=''):\n    return VALUE\n"


def test_a_file_imports_its_neighbours_and_those_above(write):
    upper = write(**{"a/common": "VALUE = 1\n", "a/x": READS})
    inner = write(**{"a/in/y": READS})
    late = write(
        **{"a/z": "def get_config(arg=''):\n    import x\n    return x.VALUE\n"}
    )
    assert [run_file(file, "config") for file in (upper, inner, late)] == [1, 1, 1]
    write(**{"a/in/common": "VALUE = 2\n"})
    assert run_file(inner, "config") == 2, "the nearer one wins"
    assert run_file(upper, "config") == 1
    write(**{"a/common": "VALUE = 3\n"})
    assert run_file(upper, "config") == 3, "an edited one is read anew"


def test_a_neighbour_comes_before_a_module_of_the_program(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "common", own := type(sys)("common"))
    write(**{"a/common": "VALUE = 1\n", "b/common": "VALUE = 2\n"})
    b = write(**{"b/x": READS})
    both = "from common import VALUE\nfrom jax_rcl.config.files import run_file\n"
    both += f"def get_config(arg=''):\n    return VALUE, run_file({b!r}, 'config')\n"
    a = write(**{"a/x": both})
    assert run_file(a, "config") == (1, 2), "also while another file runs"
    assert sys.modules["common"] is own


def test_folders_that_python_searches_are_left_to_it(write, monkeypatch, tmp_path):
    file = write(searched="VALUE = 1\n", x=READS.replace("common", "searched"))
    monkeypatch.syspath_prepend(tmp_path)
    assert run_file(file, "config") == 1
    assert sys.modules.pop("searched").VALUE == 1


def test_files_that_run_at_once_do_not_mix_their_neighbours(write):
    slow = "import time\ntime.sleep(0.02)\n"
    files = {}
    for value in range(4):
        write(**{f"{value}/common": f"{slow}VALUE = {value}\n"})
        files[value] = write(**{f"{value}/x": READS})
    found = {}

    def run(value):
        found[value] = run_file(files[value], "config")

    threads = [threading.Thread(target=run, args=(value,)) for value in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {value: value for value in files}


@pytest.mark.parametrize(
    ("common", "words"),
    [
        ("VALUE = 1\nVALU\n", r"x\.py: .*common\.py, line 2: NameError: .*'VALU'"),
        ("VALUE = (\n", r"x\.py: .*common\.py: SyntaxError: .*line 1"),
        ("OTHER = 1\n", r"x\.py, line 1: ImportError: cannot import name 'VALUE'"),
        (
            "from jax_rcl.config import ConfigError\nraise ConfigError('no')\n",
            r"x\.py: .*common\.py: no$",
        ),
    ],
)
def test_an_error_in_a_neighbour_is_one_message_that_names_it(write, common, words):
    write(common=common)
    with pytest.raises(ConfigError, match=words):
        config.load(write(x=READS))


def test_a_missing_file_that_a_config_looks_into_is_one_error(write):
    file = write(reads="def get_config(arg=''):\n    open('missing.npz')\n")
    with pytest.raises(
        ConfigError, match=r"reads\.py, line 2: .*No such file.*'missing"
    ):
        config.load(file)


def test_options_are_typed():
    options = config.parse("classes=100,rate=1", classes=10, rate=0.5, name="a")
    assert (options.classes, options.rate, options.name) == (100, 1.0, "a")
    with pytest.raises(
        ConfigError, match=r"no option 'clases'.*Did you mean 'classes'"
    ):
        config.parse("clases=3", classes=10)
    with pytest.raises(ConfigError, match="option 'classes' takes int; got 'ten'"):
        config.parse("classes=ten", classes=10)
    with pytest.raises(ConfigError, match="needs a value"):
        config.parse("classes", classes=10)


def test_paths_may_hold_commas_and_colons(tmp_path, write):
    odd = tmp_path / "a,b:c=d"
    odd.mkdir()
    options = config.parse(f"folder={odd},epochs=3", folder="", epochs=1)
    assert (options.folder, options.epochs) == (str(odd), 3)
    quoted = "epochs=3,folder='new,x=1',name=\"a\""
    options = config.parse(quoted, folder="", epochs=1, name="")
    assert (options.folder, options.epochs, options.name) == ("new,x=1", 3, "a")
    with pytest.raises(ConfigError, match="no option 'quick'"):
        config.parse(f"folder={tmp_path},quick", folder="")
    file = odd / "own.py"
    file.write_text("def get_config(arg=''):\n    return arg\n")
    assert run_file(f"{file}:folder=/x:y", "config") == "folder=/x:y"
    assert run_file(str(file), "config") == ""
    with pytest.raises(ConfigError, match=r"there is no config file gone:1\.py\."):
        run_file("gone:1.py:a=b", "config")


def test_options_with_choices_take_one_of_them():
    assert config.parse("", source=("archive", "tfds")).source == "archive"
    assert config.parse("source=tfds", source=("archive", "tfds")).source == "tfds"
    with pytest.raises(ConfigError, match=r"no value 'tdfs'.*Did you mean 'tfds'"):
        config.parse("source=tdfs", source=("archive", "tfds"))
    assert config.parse("side=56", side=(28, 56)).side == 56
    with pytest.raises(ConfigError, match="no value '30'; there are: 28, 56"):
        config.parse("side=30", side=(28, 56))


def test_options_with_a_range_lie_in_it():
    share = Within(0, 1, "low")
    assert config.parse("", share=(1.0, share)).share == 1.0
    assert config.parse("share=0.1", share=(1.0, share)).share == 0.1
    with pytest.raises(ConfigError, match=r"option 'share' 1.5 must be in \(0, 1\]"):
        config.parse("share=1.5", share=(1.0, share))
    with pytest.raises(ConfigError, match=r"option 'seed' takes int; got 0.5"):
        config.parse("seed=0.5", seed=(0, AtLeast(0)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rcl.optim.Sgdd", "AttributeError: No jax_rcl.optim attribute Sgdd"),
        ("[][1]", "IndexError: list index out of range"),
    ],
)
def test_a_mistake_in_get_config_is_one_error_with_its_line(write, line, message):
    file = write(
        typo=f"import jax_rcl as rcl\n\n\ndef get_config(arg=''):\n    return {line}\n"
    )
    with pytest.raises(ConfigError, match=rf"typo\.py, line 5: {re.escape(message)}"):
        config.load(file)


def test_an_option_that_would_do_nothing_is_refused():
    options = config.parse("rate=1.0", rate=0.5, name="a")
    assert options.given == {"rate"}
    config.only_with(options, True, "name=b", "rate")
    config.only_with(options, False, "name=b", "name")
    with pytest.raises(ConfigError, match=r"'rate' does nothing here: .* for name=b"):
        config.only_with(options, False, "name=b", "rate", "name")
