"""Config nodes: what they hold, how they change, what they refuse."""

import dataclasses
import subprocess
import sys
from collections.abc import Mapping

import pytest

from jax_rcl import config
from jax_rcl.augment.color import Grayscale
from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.geometry import Flip
from jax_rcl.config.experiment import Best, Experiment
from jax_rcl.config.nodes import build, node, resolved, same
from jax_rcl.config.overrides import override
from jax_rcl.config.types import ConfigError, fitted
from jax_rcl.config.workdir import binding_differences
from jax_rcl.core import Evaluator
from jax_rcl.data.sources import Synthetic
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.when import Every
from jax_rcl.losses.kernels import Rbf
from jax_rcl.networks.heads import Mlp
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.supcon import SupCon
from tests.config.shared import Part, Whole, experiment, supcon, whole


def test_a_node_holds_every_field_with_its_default():
    assert supcon()["temperature"] == 0.1
    assert supcon().encoder.width == 4
    assert whole().extra.size == 7


def test_build_makes_the_object_that_the_class_would_have_made():
    assert build(whole()) == Whole((Part(4), Part()), table={"a/b": "c"})
    encoder = ResNet(depth=10, width=4, stem="small")
    assert build(supcon()) == SupCon(encoder, Mlp((8, 8)))


def test_json_gives_an_equal_object_back():
    for made in (whole(), supcon(temperature=0.5)):
        again = config.from_json(config.to_json(made))
        assert build(again) == build(made)
        assert config.to_json(again) == config.to_json(made)
        assert config.differences(made, again) == []


def test_a_mistyped_field_fails_where_it_is_written_with_a_suggestion():
    with pytest.raises(
        ConfigError, match=r"SupCon has no field 'temperatur'.*"
    ) as told:
        supcon(temperatur=0.2)
    assert "encoder, projector, temperature, positives, block" in str(told.value)
    assert "Did you mean 'temperature'?" in str(told.value)


def test_a_wrong_type_fails_where_it_is_written():
    with pytest.raises(ConfigError, match=r"SupCon.temperature takes float; got 'hot'"):
        supcon(temperature="hot")
    with pytest.raises(ConfigError, match="needs a value for 'depth'"):
        node(ResNet)


def test_a_field_has_one_value():
    with pytest.raises(ConfigError, match="Rbf has two values for 'sigma'; give one"):
        node(Rbf, 3.0, sigma=4.0)


def test_a_value_that_the_class_refuses_is_named_by_its_path():
    made = whole()
    override(made, "parts[1].size", "0")
    with pytest.raises(
        ConfigError, match=r"parts\[1\]: size must be at least 1; got 0"
    ):
        build(made)


def test_an_object_of_the_wrong_kind_is_refused():
    fields = {"source": node(Flip), "augment": node(Flip), "optimizer": node(Flip)}
    made = node(Experiment, node(Flip), **fields, batch_size=1, epochs=1)
    with pytest.raises(ConfigError, match=r"objective takes .*Objective"):
        build(made)


@dataclasses.dataclass(frozen=True)
class Unready:
    """An evaluator without `needs` and `protocol`."""

    when: Every

    def check(self):
        pass

    def run(self, encode):
        return {}


def test_an_evaluator_that_lacks_something_is_told_what():
    with pytest.raises(
        ConfigError, match=r"evaluators: Unready has no needs, protocol"
    ):
        fitted(
            {"mine": Unready(Every(epochs=1))}, Mapping[str, Evaluator], "evaluators"
        )


def test_a_notebook_changes_fields_as_attributes():
    made = supcon()
    made.temperature = 0.5
    assert build(made).temperature == 0.5
    with pytest.raises((AttributeError, KeyError)):
        made.temperatur = 0.5
    made.temperature = "hot"
    with pytest.raises(ConfigError, match="temperature takes float"):
        build(made)


def test_only_known_classes_are_built():
    with pytest.raises(ConfigError, match="neither a class of jax_rcl nor of a module"):
        build({"class": "antigravity:fly"})
    assert "antigravity" not in sys.modules
    with pytest.raises(ConfigError, match="has no class nothing"):
        build({"class": "jax_rcl.config.nodes:nothing"})
    with pytest.raises(ConfigError, match="has no class"):
        build({"class": "subprocess:run", "args": "true"})
    assert subprocess.run is not None


def test_a_field_that_the_class_lost_is_named():
    old = config.from_json(config.to_json(whole()).replace('"rate"', '"pace"'))
    with pytest.raises(ConfigError, match=r"Whole has no field 'pace'"):
        build(old)


def referring():
    """An experiment with an evaluator's parts, which are those of training."""
    made = experiment(batch_size=4, epochs=1)
    with made.unlocked():
        made.augment = node(Views, node(Chain, (node(Flip), node(Flip, 0.1))))
        made.evaluators = {
            "knn": node(
                Neighbours,
                same("source"),
                node(Synthetic, seed=1),
                preprocess=same("augment.operation.operations[1]"),
            )
        }
    return config.from_json(config.to_json(made))


def test_what_is_the_same_has_one_home():
    made = referring()
    knn = build(made).evaluators["knn"]
    assert knn.train == Synthetic() and knn.preprocess == Flip(0.1)
    override(made, "augment.operation.operations[1].probability", "0.3")
    override(made, "source.classes", "7")
    override(made, "augment.operation.operations[-2].probability", "0.9")
    built = build(made)
    assert built.evaluators["knn"].preprocess == Flip(0.3)
    assert built.augment.operation == Chain((Flip(0.9), Flip(0.3)))
    assert built.evaluators["knn"].train == built.source == Synthetic(classes=7)
    assert resolved(made).evaluators.knn.train.classes == 7
    assert config.to_json(config.from_json(config.to_json(made))) == config.to_json(
        made
    )


def test_what_is_the_same_is_changed_at_its_home_alone():
    made = referring()
    with pytest.raises(ConfigError, match=r"change it there, .*--config\.source\.seed"):
        override(made, "evaluators.knn.train.seed", "3")
    for text in ("Synthetic(seed=3)", "None"):
        with pytest.raises(ConfigError, match=r"for both: --config\.source=…$"):
            override(made, "evaluators.knn.train", text)
    # Another evaluator is one of its own, and so is what a config file writes.
    override(made, "evaluators.other", "Neighbours(Synthetic(seed=3), Synthetic)")
    with made.evaluators.unlocked():
        made.evaluators.knn.train = node(Synthetic, seed=4)
    built = build(made)
    assert built.evaluators["other"].train == Synthetic(seed=3)
    assert built.evaluators["knn"].train == Synthetic(seed=4)
    assert built.source == Synthetic()


def test_what_is_counted_stays_what_it_was_when_its_tuple_is_replaced():
    made = referring()
    with made.evaluators.unlocked():
        made.evaluators.knn.preprocess = same("augment.operation.operations[-1]")
    before = config.to_json(made)
    words = (
        r"operations\[-1\] would be Grayscale instead of Flip, and "
        r"evaluators\.knn\.preprocess is the same .* write first --config\.augment\."
    )
    for path, text in (
        ("augment.operation.operations", "(Flip, Flip, Grayscale)"),
        ("augment", "Views(Chain((Flip, Grayscale)))"),
    ):
        with pytest.raises(ConfigError, match=words):
            override(made, path, text)
    assert config.to_json(made) == before
    override(made, "augment.operation.operations", "(Grayscale, Flip(0.2))")
    assert build(made).evaluators["knn"].preprocess == Flip(0.2)
    override(made, "augment.operation.operations[-1]", "Grayscale")
    override(made, "augment.operation.operations", "(Flip, Flip, Grayscale)")
    assert build(made).evaluators["knn"].preprocess == Grayscale()


def test_what_is_the_same_as_nothing_can_be_replaced():
    made = referring()
    override(made, "augment.operation", "Flip")
    override(made, "evaluators.knn.preprocess", "Flip(0.7)")
    assert build(made).evaluators["knn"].preprocess == Flip(0.7)


def test_what_is_the_same_as_nothing_is_named():
    made = referring()
    override(made, "augment.operation", "Flip")
    with pytest.raises(ConfigError, match=r"knn.preprocess is the same as augment"):
        build(made)
    with pytest.raises(ConfigError, match="of the whole config"):
        build(made.evaluators, "evaluators")
    made.source = same("evaluators.knn.train")
    override(made, "augment.operation", "Chain((Flip, Flip))")
    with pytest.raises(ConfigError, match="is the same as"):
        build(made)


def test_a_run_is_bound_by_what_its_config_means():
    made = referring()
    plain_one = config.from_json(config.to_json(resolved(made)))
    assert config.differences(made, plain_one) != []
    assert binding_differences(made, plain_one) == []
    override(made, "source.classes", "7")
    lines = binding_differences(plain_one, made)
    assert lines == [
        "evaluators.knn.train.classes: 10 -> 7",
        "source.classes: 10 -> 7",
    ]


def test_differences_name_the_fields():
    old, new = whole(), whole()
    override(new, "rate", "0.5")
    override(new, "parts[1].size", "9")
    assert config.differences(old, new) == ["parts[1].size: 3 -> 9", "rate: 0.1 -> 0.5"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "either epochs or steps"),
        ({"epochs": 1, "steps": 1}, "either epochs or steps"),
        ({"epochs": 0}, r"Experiment\.epochs 0 must be at least 1"),
        ({"steps": -1}, r"Experiment\.steps -1 must be at least 0"),
    ],
)
def test_an_experiment_checks_its_numbers(fields, words):
    with pytest.raises(ConfigError, match=words):
        build(experiment(**{"batch_size": 8, **fields}))


def test_an_old_config_is_completed_by_what_its_class_has_gained():
    text = config.to_json(whole()).replace('"rate": 0.1,', "")
    assert "rate" not in text
    old = config.completed(config.from_json(text))
    assert config.differences(old, whole()) == []


def test_the_best_is_the_first_of_the_highest_or_the_lowest():
    highest, lowest = Best("probe/top1"), Best("probe/loss", "min")
    assert highest.is_better(0.1, None) and lowest.is_better(0.1, None)
    assert highest.is_better(0.2, 0.1) and not lowest.is_better(0.2, 0.1)
    assert lowest.is_better(0.1, 0.2) and not highest.is_better(0.1, 0.2)
    for best in (highest, lowest):
        assert not best.is_better(0.1, 0.1)
        for value in (float("nan"), float("inf"), float("-inf")):
            assert not best.is_better(value, None)
            assert not best.is_better(value, 0.1)


def test_what_says_the_best_is_a_number_of_an_evaluator():
    names = ("test", "test/knn", "probe")
    assert Best("test/top1").evaluator(names) == "test"
    assert Best("test/knn/top1").evaluator(names) == "test/knn"
    words = (
        r"'prob/top1', but there is no evaluator 'prob'; there are: test, test/knn, "
    )
    with pytest.raises(ConfigError, match=rf"{words}probe\. Did you mean 'probe'"):
        Best("prob/top1").evaluator(names)
    for monitor in ("loss", "/loss", "probe/"):
        with pytest.raises(ConfigError, match=r"must be <evaluator>/<number>, such as"):
            build(node(Best, monitor))
