"""Changing configs by texts: what is read, what is found, what is refused."""

import sys

import pytest

from jax_rcl import config
from jax_rcl.augment.compose import Chain
from jax_rcl.augment.distortions import CONDITIONS
from jax_rcl.augment.geometry import Flip, RandomResizedCrop, VerticalFlip
from jax_rcl.config.nodes import build, node
from jax_rcl.config.overrides import override
from jax_rcl.config.types import ConfigError
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.data.sources import Cifar, Synthetic
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.losses.kernels import Cosine, Rbf
from jax_rcl.networks.heads import Mlp
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.classify import FROZEN_ENCODER
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.optim import schedules
from jax_rcl.optim.optimizers import Adam, Group
from jax_rcl.weights.restore import Restore
from tests.config.shared import Part, experiment, whole


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("rate", "1", 1.0),
        ("rate", "1e-3", 1e-3),
        ("mode", "slow", "slow"),
        ("name", "3", "3"),
        ("limit", "5", 5),
        ("limit", "None", None),
        ("deep", "true", True),
        ("widths", "(4,5,6)", (4, 5, 6)),
        ("widths", "[4]", (4,)),
    ],
)
def test_an_override_takes_the_type_of_its_field(path, text, value):
    made = whole()
    override(made, path, text)
    assert made[path] == value
    assert type(made[path]) is type(value)
    assert getattr(build(made), path) == value


def test_an_override_reaches_into_lists_and_parts():
    made = whole()
    override(made, "parts[0].size", "64")
    override(made, "parts[-1].size", "65")
    override(made, "extra.size", "9")
    assert [part.size for part in build(made).parts] == [64, 65]
    assert build(made).extra.size == 9


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("rat", "1", "there is no 'rat'.*Did you mean 'rate'"),
        ("rate", "hot", r"rate holds 0.1 and takes float; got 'hot' \(str\)"),
        ("mode", "medium", "mode holds 'fast' and takes Literal"),
        ("widths", "(1,'a')", "widths holds"),
        ("parts[7].size", "1", r"there is no \[7\]"),
        ("parts[-3].size", "1", r"there is no \[-3\]"),
        ("rate[0]", "1", r"there is no \[0\]"),
        ("parts.-1.size", "1", r"write \[-1\] instead of \.-1"),
        ("parts.0.size", "1", r"write \[0\] instead of \.0"),
        ("parts[0].siz", "1", "Did you mean 'size'"),
        ("rate.x", "1", "there is no 'x'"),
        ("class", "os:system", "there is no 'class'"),
    ],
)
def test_an_override_that_cannot_be_says_why(path, text, words):
    with pytest.raises(ConfigError, match=words):
        override(whole(), path, text)


def test_a_truth_value_is_no_number():
    with pytest.raises(ConfigError, match=r"rate holds 0.1 and takes float"):
        override(whole(), "rate", "true")
    with pytest.raises(ConfigError, match=r"limit takes int"):
        override(whole(), "limit", "false")


def uniformity():
    """An experiment whose objective takes a kernel."""
    made = experiment(batch_size=4, epochs=1)
    encoder = node(ResNet, depth=10, width=4)
    with made.unlocked():
        made.objective = node(Uniformity, encoder, node(Mlp, (8, 8)))
    return made


def at(made, path):
    """What a path of a config builds."""
    holder = made
    for name in path.replace("[", ".").replace("]", "").split("."):
        holder = holder[int(name)] if name.isdigit() else holder[name]
    return build(holder)


ADAM = Adam(1e-3, schedules.Cosine(warmup_epochs=2.0), groups=(Group("x", 0.5),))


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        # Of two classes of this name, the one that the field takes.
        ("objective.kernel", "Cosine", Cosine()),
        ("optimizer.schedule", "Cosine", schedules.Cosine()),
        ("objective.kernel", "rcl.losses.Rbf(sigma=3)", Rbf(3.0)),
        ("objective.kernel", "losses.Rbf(3)", Rbf(3.0)),
        ("objective.kernel", "jax_rcl.losses.kernels:Rbf(3)", Rbf(3.0)),
        ("objective.kernel", "None", None),
        ("optimizer", "Adam(learning_rate=1e-3)", Adam(1e-3)),
        (
            "optimizer",
            "Adam(1e-3, Cosine(warmup_epochs=2.0), groups=[Group('x', 0.5)])",
            ADAM,
        ),
        (
            "optimizer.schedule",
            "MultiStep((30, 40), factor=0.2)",
            schedules.MultiStep((30, 40), 0.2),
        ),
        (
            "init_from",
            "(Restore('runs/x', FROZEN_ENCODER), Restore('y', {'params/a': 'b'}))",
            (Restore("runs/x", FROZEN_ENCODER), Restore("y", {"params/a": "b"})),
        ),
        ("source", "node(rcl.data.Cifar, 100, 'test')", Cifar(100, "test")),
        ("augment.operation", "CONDITIONS['mask90']", CONDITIONS["mask90"]),
        (
            "source",
            "ImageFolder('x', None, classes=IMAGENET_100)",
            ImageFolder("x", None, classes=IMAGENET_100),
        ),
        (
            "augment.operation",
            "Chain((RandomResizedCrop(8, interpolation=bicubic), Flip()))",
            Chain((RandomResizedCrop(8, interpolation="bicubic"), Flip())),
        ),
    ],
)
def test_an_override_names_classes_as_a_config_file_does(path, text, value):
    made = uniformity()
    override(made, path, text)
    assert at(made, path) == value
    again = config.from_json(config.to_json(made))
    assert at(again, path) == value


def test_an_override_of_a_new_object_can_itself_be_overridden():
    made = uniformity()
    override(made, "optimizer", "Adam(1e-3)")
    override(made, "optimizer.beta1", "0.5")
    assert at(made, "optimizer") == Adam(1e-3, beta1=0.5)


def test_an_override_replaces_an_item_and_adds_to_objects_by_name():
    made = uniformity()
    override(made, "augment.operation", "Chain((Flip, Flip))")
    override(made, "augment.operation.operations[1]", "VerticalFlip(0.2)")
    assert at(made, "augment.operation.operations") == (Flip(), VerticalFlip(0.2))
    override(made, "evaluators.knn", "Neighbours(Synthetic, Synthetic(seed=1), k=3)")
    knn = Neighbours(Synthetic(), Synthetic(seed=1), k=3)
    assert at(made, "evaluators.knn") == knn


def test_an_override_names_constants_where_no_object_is_taken():
    made = uniformity()
    override(made, "init_from", "(Restore('runs/x', {'params': 'params'}),)")
    override(made, "init_from[0].paths", "FROZEN_ENCODER")
    assert at(made, "init_from") == (Restore("runs/x", FROZEN_ENCODER),)
    override(made, "source", "ImageFolder('x', 8)")
    override(made, "source.classes", "IMAGENET_100")
    assert made.source.classes == IMAGENET_100


def test_a_word_that_reads_as_a_number_is_text_where_that_is_taken():
    made = uniformity()
    override(made, "source", "Cifar")
    for text, value in (("2024", "2024"), ("true", "true"), ("None", None)):
        override(made, "source.folder", text)
        assert made.source.folder == value


def test_an_override_names_classes_of_other_modules():
    made = whole()
    override(made, "extra", "tests.config.shared:Part(9)")
    override(made, "parts", "(tests.config.shared:Part(4),)")
    assert build(made).extra == Part(9) and build(made).parts == (Part(4),)


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("objective.kernel", "Cosin", "no 'Cosin'.*Cosine, Rbf.*mean 'Cosine'"),
        ("objective.kernel", "Adam", "takes Kernel.*which optim.Adam is not.*Rbf"),
        ("optimizer", "Adm(1e-3)", "no 'Adm'; there are Adam, AdamW, .*mean 'Adam'"),
        ("optimizer", "Adam(learning_rat=1.0)", "no field.*mean 'learning_rate'"),
        ("optimizer", "Adam", "Adam needs a value for 'learning_rate'"),
        ("optimizer", "Adam(-1.0)", "learning_rate -1.0 must be above 0"),
        ("optimizer", "Adam(1e-3, Cosin)", "no 'Cosin'.*mean 'Cosine'"),
        ("optimizer", "Adam(1e-3", "is no value as Python writes it.*missing"),
        ("optimizer", "Adam(open('x'))", "there is no 'open'"),
        ("optimizer", "Adam(1e-3 * 2)", "neither a literal nor a class"),
        ("optimizer", "Adam(*(1, 2))", "write out what"),
        ("optimizer", "__import__('os').system('true')", "classes have names"),
        ("optimizer", "os:system('true')", "module os has no class system"),
        ("optimizer", "nowhere.x:Sgd(1)", "there is no module nowhere"),
        ("optimizer", "hot", "no 'hot'; there are Adam, AdamW, Lars, Sgd"),
        ("init_from", "Restore('x', {})", r"takes several; .*\(Restore\('x', {}\),\)"),
        ("evaluators.knn", "3", "takes Evaluator; got 3"),
        ("augment.operation", "CONDITIONS['mask9']", "no 'mask9'; .*mean 'mask90'"),
        (
            "init_from",
            "(Flip,)",
            "takes InitRule, which augment.Flip is not.*, Restore",
        ),
        ("init_from", "(BatchNorm,)", "takes InitRule, which networks.BatchNorm is"),
        (
            "init_from",
            "(Resto('x', {}),)",
            "there are FillClasses, ImportClip, Im.*re'",
        ),
        (
            "augment.operation",
            "Mixup",
            r"takes Callable\[\[Array, Array\], Array\], which augment.Mixup is not",
        ),
        ("augment.operation", "ResNet(10)", "which networks.ResNet is not"),
        ("augment.operation", "Views(Flip)", "which augment.Views is not"),
        ("augment", "Flip", "augment.Flip is not; there are Mixed, Negatives, Pair, T"),
        ("augment", "Mixed(Views(Flip), Flip)", "which augment.Flip is not.*CutMix, M"),
        ("init_from", "(Restore('x', {}, which=-3),)", "which -3 must be at least 0"),
        ("objective.kernel", "Rbf(3, sigma=4)", "two values for 'sigma'; give one"),
        ("best", "knn/top1", r'Write Best\("knn/top1"\)\.'),
        ("optimizer", "collections:OrderedDict", "collections:OrderedDict is no class"),
        ("optimizer", "collections:OrderedDict(1)", "collections:OrderedDict is no cl"),
        ("batch_size", "Adam(1)", r"takes int; got 'Adam\(1\)'"),
    ],
)
def test_a_class_that_cannot_be_is_one_message_of_this_argument(path, text, words):
    made = uniformity()
    before = config.to_json(made)
    with pytest.raises(ConfigError, match=words) as told:
        override(made, path, text)
    assert str(told.value).removeprefix("--config.").startswith(path)
    assert "\n" not in str(told.value)
    assert config.to_json(made) == before


def test_reading_a_text_runs_nothing_of_it(tmp_path):
    made = uniformity()
    for text in (f"Adam(open('{tmp_path}/x', 'w'))", f"[open('{tmp_path}/x', 'w')]"):
        with pytest.raises(ConfigError):
            override(made, "optimizer", text)
    assert not list(tmp_path.iterdir()) and "antigravity" not in sys.modules
