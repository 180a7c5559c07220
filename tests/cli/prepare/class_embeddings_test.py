"""The command that writes class embeddings: a file that fits its classes, refusals."""

import numpy as np
import pytest

from jax_rcl.cli.prepare import class_embeddings
from jax_rcl.cli.prepare.class_embeddings import main
from jax_rcl.data.published.imagenet import IMAGENET_100, IMAGENET_100_NAMES
from jax_rcl.evaluate.zero_shot import FromFile


def embedded(rule, class_names):
    """Numbers that depend on the name, instead of the text tower."""
    prompts = [f"{t} {name}" for name in rule.names for t in rule.templates]
    if any("too long" in prompt for prompt in prompts):
        raise ValueError("the text 'too long' has 78 tokens")
    per_class = np.array(prompts).reshape(len(class_names), -1)
    return np.array([[len(x) for x in row] for row in per_class], np.float32)


@pytest.fixture(autouse=True)
def rules(monkeypatch):
    """What the command asks of CLIP, which no test here runs."""
    asked = []

    def answer(rule, class_names):
        asked.append(rule)
        return embedded(rule, class_names)

    monkeypatch.setattr(class_embeddings.FromText, "__call__", answer)
    return asked


def run(names, out, *flags):
    return main(["--clip=clip.npz", f"--names={names}", f"--out={out}", *flags])


def test_the_file_of_imagenet_100_is_matched_by_the_folders_of_its_classes(
    tmp_path, capsys, rules
):
    out = tmp_path / "deep" / "names.npz"
    assert run("imagenet100", out) == 0
    assert (rules[0].file, rules[0].names) == ("clip.npz", IMAGENET_100_NAMES)
    with np.load(out, allow_pickle=False) as found:
        assert found["names"].tolist() == list(IMAGENET_100)
        assert found["called"].tolist() == list(IMAGENET_100_NAMES)
        assert found["templates"].tolist() == ["A photo of {}"]
        rows = found["embedding"]
    shuffled = IMAGENET_100[::-1]
    np.testing.assert_array_equal(FromFile(str(out))(shuffled), rows[::-1])
    output = capsys.readouterr().out
    assert f"{out}: embeddings [100, 1] of 100 classes by clip.npz for" in output
    assert "such as 'A photo of robin' for 'n01558993'" in output
    assert [path.name for path in out.parent.iterdir()] == ["names.npz"]


def test_names_of_a_file_may_say_what_classes_are_called(tmp_path, rules):
    (tmp_path / "names.txt").write_text("sea_lion\nn02508021\traccoon\n\nn01558993\n")
    flags = ("--template=a {}", "--template={} in the snow", "--activation=gelu")
    assert run(tmp_path / "names.txt", tmp_path / "out.npz", *flags) == 0
    assert rules[0].names == ("sea lion", "raccoon", "robin")
    assert rules[0].templates == ("a {}", "{} in the snow")
    assert rules[0].activation == "gelu"
    found = FromFile(str(tmp_path / "out.npz"))(("n02508021", "sea_lion"))
    assert found.shape == (2, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is neither imagenet100 nor a file"),
        ("", "names no classes"),
        ("cat\ndog\ncat\tkitten\n", "names 'cat' twice"),
        ("n01484850\n", "--names: 1 of 1 classes have no name"),
        ("too_long\n", "class embeddings: the text 'too long' has 78 tokens"),
    ],
)
def test_names_that_cannot_work_are_one_clear_error(tmp_path, capsys, text, message):
    path = tmp_path / "names.txt"
    if text is not None:
        path.write_text(text)
    assert run(path, tmp_path / "out.npz") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()


def test_a_template_without_a_place_for_the_name_is_refused(tmp_path, capsys):
    assert run("imagenet100", tmp_path / "out.npz", "--template=a photo") == 2
    assert "--template: FromText.templates ('a photo',)" in capsys.readouterr().err


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(tmp_path, capsys):
    out = tmp_path / "names.npz"
    out.write_bytes(b"something")
    assert run("imagenet100", out) == 2
    assert "exists already; write --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"something"
    assert run("imagenet100", out, "--overwrite") == 0
    assert len(FromFile(str(out))(IMAGENET_100)) == 100
