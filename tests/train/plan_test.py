"""What cannot work is refused before anything is compiled or written."""

import dataclasses

import jax
import jaxtyping
import numpy as np
import pytest
from PIL import Image

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.augment.compose import Chain, Pair, Views
from jax_rcl.augment.corruptions.table import Corruption
from jax_rcl.augment.geometry import CenterCrop, Flip, RandomResizedCrop
from jax_rcl.config.experiment import Best
from jax_rcl.config.nodes import node
from jax_rcl.config.types import ConfigError
from jax_rcl.data.crops import RandomCrops
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.frames import Framed
from jax_rcl.data.prior import WithPrior
from jax_rcl.data.published.files import CIFAR
from jax_rcl.data.published.grouped import WithGroups
from jax_rcl.data.sources import Npz, Synthetic
from jax_rcl.data.wrappers import Subset
from jax_rcl.evaluate.groups import GroupAccuracy
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.shifts.robustness import Corrupted, CorruptedFolders, Robustness
from jax_rcl.evaluate.when import Never
from jax_rcl.main import main
from jax_rcl.networks.heads import Linear, Mlp
from jax_rcl.networks.resnet import ResNet
from jax_rcl.networks.vit import ViT
from jax_rcl.objectives.classify import Classify
from jax_rcl.objectives.distill import Distill
from jax_rcl.objectives.group_dro import GroupDRO
from jax_rcl.objectives.moco import MoCo
from jax_rcl.objectives.spread import Spread
from jax_rcl.objectives.supcon import SimCLR, SupCon
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.optim.optimizers import Group, Sgd
from jax_rcl.train import plan as plan_module
from jax_rcl.train.plan import (
    check_compute,
    is_resident,
    plan,
    sources_of,
    whole_batches,
)
from jax_rcl.weights.restore import Restore
from tests.stand_ins import Pixels
from tests.train.shared import TINY, mesh, tiny


def planned(made, devices=1):
    return plan(configs.build(made), mesh(devices))


@pytest.fixture
def npz(tmp_path):
    """Makes an Npz source of these labels, or of none."""

    def make(labels=None, **fields):
        images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), np.uint8)
        arrays = {} if labels is None else {"label": np.asarray(labels)}
        np.savez(tmp_path / "own.npz", image=images, **arrays)
        fields.setdefault("label", None if labels is None else "label")
        return node(Npz, str(tmp_path / "own.npz"), **fields)

    return make


def without_evaluators(**fields):
    return tiny(evaluators={}, **fields)


def test_a_plan_counts_steps_and_knows_shapes_and_compiles_nothing(compiled):
    found = planned(tiny(), devices=2)
    assert not compiled and found.resident
    assert (found.steps_per_epoch, found.total_steps) == (4, 12)
    assert found.record["image"].shape == (8, 8, 3)
    assert found.augmented["views"].shape == (16, 2, 8, 8, 3)
    leaves = jax.tree.leaves(found.variables)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert found.example()["views"].shape == (1, 2, 8, 8, 3)


def test_steps_may_be_given_instead_of_epochs():
    made = tiny(epochs="none", steps="7")
    assert planned(made).total_steps == 7


@pytest.mark.parametrize(
    ("batch_size", "devices", "works"), [(12, 8, 16), (20, 8, 16), (3, 8, 8), (7, 2, 8)]
)
def test_a_batch_that_devices_do_not_divide_names_one_that_they_do(
    batch_size, devices, works
):
    words = f"batch_size {batch_size} is not divisible by the {devices} devices; "
    with pytest.raises(ConfigError, match=f"{words}try {works}"):
        whole_batches(batch_size, 64, mesh(devices))
    assert whole_batches(works, 64, mesh(devices)) == 64 // works


ENCODER = node(ViT, patch=4, width=8, depth=1, heads=2, pool="mean")
PARTS = (ENCODER, node(Linear, 4))
NOTHING_TO_COMPARE = "compares an example with the others of its batch, but there is"


def views(count):
    return node(Views, node(Chain, (node(Flip),)), count=count)


@pytest.mark.parametrize(
    ("objective", "fields", "words"),
    [
        (node(SimCLR, *PARTS), {"augment": views(1)}, "compares the views of an im"),
        (node(SimCLR, *PARTS), {"batch_size": 1}, f"SimCLR {NOTHING_TO_COMPARE}"),
        (node(SupCon, *PARTS), {"batch_size": 1}, f"SupCon {NOTHING_TO_COMPARE}"),
        (node(Uniformity, *PARTS), {"batch_size": 1}, NOTHING_TO_COMPARE),
        (node(Spread, ENCODER, None), {"batch_size": 1}, NOTHING_TO_COMPARE),
        (
            node(Distill, ENCODER, loss_type="clip"),
            {"batch_size": 1, "augment": node(Pair, node(Flip), node(Flip))},
            f"Distill.loss_type 'clip' {NOTHING_TO_COMPARE}",
        ),
        (
            node(SimCLR, node(ResNet, 10, width=4, stem="imagenet"), node(Linear, 4)),
            {"batch_size": 2, "augment": views(2)},
            None,
        ),
        (
            node(
                MoCo,
                node(ResNet, 10, width=4, norm="local", ghost_batch=1),
                node(Linear, 4),
                queue_size=16,
            ),
            {"batch_size": 8},
            r"norm='local'\) of one value a channel .* shared by 1 example",
        ),
        (
            node(Classify, ENCODER, node(Mlp, (4, 4), norm="sync")),
            {"batch_size": 1, "augment": views(1)},
            r"norm='sync'\) of one value a channel",
        ),
        (
            node(SupCon, *PARTS),
            {"source": node(Synthetic, classes=1, size=8, count=64)},
            r"learns from labels, but the source has one class, 'grating 0'",
        ),
    ],
)
def test_settings_under_which_nothing_is_learned_are_refused(objective, fields, words):
    made = without_evaluators(objective=objective, **fields)
    if words is None:
        assert planned(made).total_steps
        return
    with pytest.raises(ConfigError, match=words):
        planned(made)


def test_a_share_of_one_example_has_nobody_to_be_compared_with():
    made = without_evaluators(objective=node(Uniformity, *PARTS, scope="device"))
    made.batch_size = 8
    assert planned(made, devices=4)
    with pytest.raises(ConfigError, match=f"scope 'device' {NOTHING_TO_COMPARE}"):
        planned(made, devices=8)


def test_a_batch_larger_than_the_source_names_the_largest_that_fits():
    words = r"batch_size 24 is larger than the source, which has 21 examples; "
    with pytest.raises(ConfigError, match=f"{words}the largest that fits is 16"):
        planned(tiny("batch_size=24,count=21"), devices=8)
    planned(tiny("batch_size=16,count=21"), devices=8)


def test_a_source_smaller_than_the_devices_is_an_error_that_can_be_followed():
    words = "source has 5 examples, fewer than the 8 devices"
    with pytest.raises(ConfigError, match=words):
        planned(tiny("batch_size=8,count=5"), devices=8)


def test_a_key_that_no_augment_adds_is_named_with_those_that_are_there():
    flip = node(Flip)
    with pytest.raises(ConfigError) as told:
        planned(tiny(augment=node(Pair, flip, flip)))
    assert str(told.value) == (
        "SupCon reads views, but the batch has clean, distorted, image, label: use an "
        "augment that adds it (as Views adds views), a source that has it, or a method "
        "that needs none."
    )


def test_labels_that_the_source_lacks_are_an_error(npz):
    words = r"SupCon reads label, but the batch has image, views: .* a source that has"
    with pytest.raises(ConfigError, match=words):
        planned(without_evaluators(source=npz()))


@dataclasses.dataclass(frozen=True)
class Softened:
    """Reads what no source has."""

    def __call__(self, clock, batch):
        return {**batch, "views": batch["soft"]}


def test_a_key_that_the_augment_misses_is_named():
    with pytest.raises(ConfigError, match="augment reads 'soft', but the source gives"):
        planned(tiny(augment=node(Softened)))


def test_labels_beyond_the_class_names_are_named(npz):
    labels = np.arange(32) % 4
    planned(without_evaluators(source=npz(labels)))
    labels[9] = 4
    source = npz(labels.copy(), names=("a", "b", "c", "d"))
    with pytest.raises(ConfigError, match=r"^source: record 9 of .* has label 4; .*\["):
        planned(without_evaluators(source=source))


def test_labels_that_nobody_reads_may_be_anything(npz):
    labels = np.full(32, -1)
    simclr = tiny().objective
    fields = {k: simclr[k] for k in ("encoder", "projector")}
    source = npz(labels, names=("a", "b"))
    made = without_evaluators(source=source, objective=node(SimCLR, **fields))
    assert planned(made).steps_per_epoch == 2


def test_shapes_that_do_not_fit_the_network_are_an_error_of_the_objective():
    vit = node(ViT, patch=3, width=4, depth=1, heads=1)
    made = tiny(objective=node(SupCon, encoder=vit, projector=node(Mlp, (4,))))
    with pytest.raises(ConfigError, match=r"^objective: "):
        planned(made)


def test_a_workdir_to_start_from_that_is_missing_is_an_error(tmp_path):
    rule = node(Restore, str(tmp_path / "gone"), {"params/encoder": "params/encoder"})
    with pytest.raises(ConfigError, match=r"^init_from: .*gone holds no checkpoint"):
        planned(tiny(init_from=(rule,)))


def test_a_group_of_no_parameter_is_an_error_of_the_optimizer():
    sgd = node(Sgd, 0.1, groups=(node(Group, "encoder/stem/.*", weight_decay=0.1),))
    with pytest.raises(ConfigError, match=r"^optimizer: Group.pattern 'encoder/stem"):
        planned(tiny(optimizer=sgd))


def test_an_evaluator_that_tests_on_what_it_trains_on_is_an_error_of_its_name():
    same = node(Synthetic, classes=4, size=8, count=20)
    evaluators = {"vote": node(Neighbours, same, same, k=5)}
    with pytest.raises(ConfigError, match=r"^evaluators\.vote: "):
        planned(tiny(evaluators=evaluators))


ARCHIVE_IS_GONE = """
from jax_rcl import config
from jax_rcl.config import node
from jax_rcl.data.sources import Cifar
from jax_rcl.evaluate.knn import Neighbours


def get_config(arg=""):
    made = config.load("{tiny}")
    parts = [node(Cifar, split=part, folder="{data}") for part in ("train", "test")]
    with made.unlocked():
        made.source = parts[0]
        made.evaluators = {{"vote": node(Neighbours, *parts, k=5)}}
    return made
"""


def test_a_missing_archive_is_one_error_before_anything_is_compiled_or_written(
    tmp_path, monkeypatch, capsys, compiled
):
    # Python 3.11's type checks of protocols, which are on in these tests, would look
    # for the archive themselves.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    # An address that needs no network to find nothing.
    archive = dataclasses.replace(CIFAR[10], url="file:///nowhere/cifar.tar.gz")
    monkeypatch.setitem(CIFAR, 10, archive)
    data, workdir = tmp_path / "data", tmp_path / "run"
    config = tmp_path / "made.py"
    config.write_text(ARCHIVE_IS_GONE.format(tiny=TINY, data=data))
    assert main([f"--config={config}", f"--workdir={workdir}"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and not compiled
    message = told.err.strip()
    assert message.startswith("ConfigError: source: ")
    for part in (archive.name, archive.sha256, str(data), archive.url):
        assert part in message
    assert message.count("ConfigError") == 1 and "Traceback" not in message
    assert not workdir.exists()


def resident(choice, devices=1):
    return is_resident(configs.build(tiny(resident=choice)), mesh(devices))


@pytest.mark.parametrize("limit", [None, 10**9, 3 * 64 * 8 * 8 * 3])
def test_resident_is_a_choice_or_by_the_memory_of_a_device(monkeypatch, limit):
    monkeypatch.setattr(parallel, "memory_stats", lambda mesh: {"bytes_limit": limit})
    assert resident("always")
    assert not resident("never")
    # A third of the memory would hold the images, but not their labels as well.
    fits = limit is None or limit == 10**9
    assert resident("auto") == fits
    assert resident("auto", devices=2)


def test_without_a_limit_of_the_device_there_is_one_of_the_library(monkeypatch):
    monkeypatch.setattr(parallel, "memory_stats", lambda mesh: {})
    monkeypatch.setattr(plan_module, "CPU_RESIDENT_BYTES", 64 * (8 * 8 * 3 + 4))
    assert resident("auto")
    monkeypatch.setattr(plan_module, "CPU_RESIDENT_BYTES", 64 * (8 * 8 * 3 + 4) - 1)
    assert not resident("auto")


def of_crops(**fields):
    """The tiny config, views made of crops that the source cuts."""
    source = tiny().source
    return tiny(source=node(RandomCrops, source, 8), evaluators={}, **fields)


def test_views_are_made_of_the_crops_of_the_source():
    found = planned(of_crops())
    assert found.resident
    assert found.record["image"].shape == (2, 8, 8, 3)
    assert found.augmented["views"].shape == (16, 2, 8, 8, 3)


def test_photographs_of_different_shapes_are_streamed_unless_they_have_frames(
    tmp_path,
):
    for number in range(16):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        pixels = np.full((9 + number, 12, 3), number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    made, photographs = of_crops(), node(ImageFolder, str(tmp_path), None)
    with made.unlocked():
        made.source.source = photographs
    assert not planned(made).resident
    alone = of_crops()
    with alone.unlocked():
        alone.source = photographs
    with pytest.raises(ConfigError, match=r"source: whole photographs .*size=256"):
        planned(alone)
    with made.unlocked():
        made.resident = "always"
    with pytest.raises(ConfigError, match=r"'always', but whole photographs .*Framed"):
        planned(made)
    framed = node(Framed, photographs, 24)
    with made.unlocked():
        made.source.source = framed
    assert planned(made).resident
    with made.unlocked():
        made.source = framed
    with pytest.raises(ConfigError, match=r"source: .*black margins.*Squares"):
        planned(made)


def test_crops_that_cannot_be_what_is_meant_are_refused_before_training():
    made = of_crops()
    with made.unlocked():
        made.source.count = 3
    with pytest.raises(ConfigError, match=r"augment: Views needs 2 .*cuts 3"):
        planned(made)
    with made.unlocked():
        made.source = node(Subset, node(RandomCrops, tiny().source, 8), 0.5)
    with pytest.raises(ConfigError, match=r"source: RandomCrops inside Subset"):
        planned(made)
    made = of_crops()
    with made.unlocked():
        made.evaluators = {"knn": node(Neighbours, made.source, tiny().source)}
    with pytest.raises(ConfigError, match=r"evaluators\.knn: .*random crops .*squares"):
        planned(made)


def test_a_classifier_is_planned_with_what_its_head_makes():
    encoder = tiny().objective.encoder
    found = planned(tiny(objective=node(Classify, encoder, node(Linear, 4))))
    shapes = jax.tree.map(lambda x: x.shape, found.variables.params["head"])
    assert shapes == {"out": {"kernel": (8, 4), "bias": (4,)}}


def test_a_head_with_too_few_outputs_is_refused():
    views, encoder = tiny().augment, tiny().objective.encoder
    made = tiny(
        augment=views, objective=node(Classify, encoder, node(Linear, 3)), evaluators={}
    )
    with pytest.raises(ConfigError, match=r"3 logits.*4 classes"):
        planned(made)


def test_an_evaluator_of_a_layer_that_is_not_there_is_refused():
    made = tiny(**{"evaluators.knn.layer": "feature"})
    words = "evaluators.knn reads the layer feature, .*embedding, features"
    with pytest.raises(ConfigError, match=words):
        planned(made)


def test_the_monitored_number_must_be_measured_in_training():
    planned(tiny(best=node(Best, "knn/top1")))
    words = r"best\.monitor is 'kn/top1', .*there are: knn\. Did you mean 'knn'"
    with pytest.raises(ConfigError, match=words):
        planned(tiny(best=node(Best, "kn/top1")))
    knn = tiny().evaluators.knn
    with knn.unlocked():
        knn.when = node(Never)
    words = "a number of 'knn', which does not run in training; set evaluators.knn.when"
    with pytest.raises(ConfigError, match=words):
        planned(tiny(best=node(Best, "knn/top1"), evaluators={"knn": knn}))


def test_what_is_not_trained_has_no_best_state():
    made = tiny(best=node(Best, "knn/top1"), epochs="none", steps="0")
    with pytest.raises(ConfigError, match="there are no steps: write best=None"):
        planned(made)


def test_float64_needs_a_jax_that_computes_in_it():
    encoder = node(ResNet, 10, width=4, compute="float64")
    made = without_evaluators(objective=node(SupCon, encoder, node(Linear, 4)))
    words = r"objective\.encoder\.compute is 'float64', .* JAX_ENABLE_X64=1"
    with pytest.raises(ConfigError, match=words):
        planned(made)
    with jax.enable_x64(True):
        check_compute(configs.build(made))


@pytest.mark.parametrize("name", ["best", "best/knn"])
def test_an_evaluator_may_not_have_the_name_of_the_best_numbers(name):
    evaluators = {name: tiny().evaluators.knn}
    if name == "best":
        planned(tiny(evaluators=evaluators))
    with pytest.raises(ConfigError, match=f"evaluators.{name} must have another name"):
        planned(tiny(best=node(Best, f"{name}/top1"), evaluators=evaluators))


def test_images_that_the_network_cannot_take_are_refused_before_training():
    vit = node(ViT, patch=2, width=4, depth=1, heads=1)
    crop = node(RandomResizedCrop, 6)
    made = tiny(
        objective=node(SupCon, encoder=vit, projector=node(Mlp, (4,))),
        augment=node(Views, node(Chain, (crop,))),
    )
    with pytest.raises(ConfigError, match=r"evaluators.knn: .* cannot take images \[8"):
        planned(made)


def test_the_sources_of_an_evaluator_come_with_what_prepares_their_images(tmp_path):
    made = [Synthetic(classes=4, size=8, count=20, seed=seed) for seed in range(3)]
    (tmp_path / "fog" / "1" / "a").mkdir(parents=True)
    files = CorruptedFolders(str(tmp_path), 4, severities=(1,))
    head = HeadAccuracy(made[0], preprocess=CenterCrop(6))
    computed = Corrupted(made[2], (Corruption("fog"),))
    sets = {"plain": made[1], "files": files, "computed": computed}
    assert dict(sources_of(Robustness(head, sets))) == {
        **dict.fromkeys(made, CenterCrop(6)),
        files.sources[0]: None,
    }
    assert dict(sources_of(GroupAccuracy(head))) == {made[0]: CenterCrop(6)}


@pytest.mark.parametrize(
    ("outputs", "names", "words"),
    [
        (4, "abcd", None),
        (4, "abce", r"those of Npz\(.*has 4, with 'e'\. Test on images of the same"),
        (4, "abdc", r"has 4, in another order\."),
        (4, "ab", r"has 2, without 2 of 4 classes: c, d\."),
        (9, "abcd", r"tells 9 classes apart: Npz\(.* has 4; give the head as many"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_head_is_shown_the_classes_that_it_learns(
    outputs, names, words, inside, npz, compiled
):
    source = npz(np.arange(32) % 4, names=tuple("abcd"))
    test = npz(np.arange(32) % len(names), names=tuple(names), image="image")
    head = node(HeadAccuracy, test, mapped=0)
    made = tiny(
        source=source,
        objective=node(Classify, node(ViT, 4, 8, 1, 2), node(Linear, outputs)),
        evaluators={"head": node(GroupAccuracy, head) if inside else head},
    )
    if words is None and not inside:
        planned(made)
        return
    with pytest.raises(ConfigError, match=f"evaluators.head: .*{words or 'groups'}"):
        planned(made)
    assert not compiled


@pytest.mark.parametrize("side", [6, 8])
def test_images_inside_the_parts_of_an_evaluator_are_looked_at(side):
    test, larger = (node(Synthetic, 4, 8, 3, 20, seed=seed) for seed in (1, 2))
    vit = node(ViT, patch=2, width=4, depth=1, heads=1)
    crop = node(CenterCrop, side)
    head = node(HeadAccuracy, test, layer="features", mapped=0, preprocess=crop)
    made = tiny(
        objective=node(SupCon, encoder=vit, projector=node(Mlp, (4,))),
        augment=node(Views, node(Chain, (node(RandomResizedCrop, 6),))),
        evaluators={"robust": node(Robustness, head, {"shifted": larger})},
    )
    if side == 6:
        planned(made)
        return
    with pytest.raises(ConfigError, match=r"robust: .* cannot take images \[8, 8"):
        planned(made)


def test_groups_of_another_number_than_those_of_the_source_are_refused(tmp_path):
    np.save(tmp_path / "groups.npy", np.arange(40) % 3)
    source = node(Synthetic, 2, 8, 1, 40)
    names = ("one", "two", "three")
    grouped = node(WithGroups, source, str(tmp_path / "groups.npy"), names)
    classify = node(Classify, node(Pixels), node(Linear, 2))
    objective = node(GroupDRO, classify, groups=2)
    made = without_evaluators(source=grouped, objective=objective)
    with pytest.raises(ConfigError, match=r"groups is 2, .* has 3 groups: one; two"):
        planned(made)


def test_what_a_loss_refuses_about_shapes_is_said_before_compiling(compiled):
    encoder, projector = node(Pixels), node(Mlp, (8, 8))
    with pytest.raises(
        ConfigError, match=r"objective: MoCo.queue_size 24 must be a multiple .* 16"
    ):
        planned(tiny(objective=node(MoCo, encoder, projector, queue_size=24)))
    assert not compiled


class Forgetful(SimCLR):
    """A method whose loss loses part of its memory."""

    def loss(self, variables, batch, clock):
        outcome = super().loss(variables, batch, clock)
        return dataclasses.replace(outcome, memory={})


def test_a_loss_returns_memory_of_the_same_structure():
    made = configs.build(tiny())
    objective = Forgetful(made.objective.encoder, made.objective.projector)
    with pytest.raises(ConfigError, match=r"Forgetful\.loss returns another memory"):
        plan(dataclasses.replace(made, objective=objective), parallel.make_mesh())


class Choosy(SimCLR):
    """A method that reads labels and refuses large ones."""

    needs = frozenset({"views", "label"})

    def check(self, records):
        assert set(records) == {"label"}
        if records["label"].max() > 2:
            raise ValueError(f"label 3 is in {len(records['label'])} records.")


@pytest.mark.parametrize(
    ("batch_size", "most", "shown"), [(16, 1024, 16), (64, 1024, 64), (64, 8, 8)]
)
def test_an_objective_may_refuse_values_of_the_records_it_reads(
    batch_size, most, shown, compiled, monkeypatch
):
    monkeypatch.setattr(plan_module, "MOST_CHECKED", most)
    made = configs.build(without_evaluators(batch_size=str(batch_size)))
    objective = Choosy(made.objective.encoder, made.objective.projector)
    made = dataclasses.replace(made, objective=objective)
    # Labels follow one another, so that all are among records spread evenly.
    with pytest.raises(ConfigError, match=f"objective: label 3 is in {shown} records"):
        plan(made, mesh())
    assert not compiled


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.zeros((63, 2)), r"source: .* has 63 rows of prior for 64 records"),
        (np.full((64, 2), np.nan), r"source: 64 of 64 rows .* have NaN or inf"),
    ],
)
def test_a_prior_that_does_not_fit_is_said_before_compiling(
    content, said, tmp_path, compiled
):
    np.savez(tmp_path / "prior.npz", prior=content)
    made = without_evaluators()
    source = node(WithPrior, made.source, str(tmp_path / "prior.npz"))
    with pytest.raises(ConfigError, match=said):
        planned(tiny(evaluators={}, source=source))
    assert not compiled


@dataclasses.dataclass(frozen=True)
class Distances:
    """Squared distances, which are no kernel."""

    def __call__(self, priors):
        return ((priors[:, None] - priors[None]) ** 2).sum(axis=-1)


def test_what_is_no_kernel_is_said_before_training(tmp_path):
    prior = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    np.savez(tmp_path / "prior.npz", prior=prior)
    made = without_evaluators()
    encoder, projector = made.objective.encoder, made.objective.projector
    objective = node(Uniformity, encoder, projector, kernel=node(Distances))
    source = node(WithPrior, made.source, str(tmp_path / "prior.npz"))
    with pytest.raises(
        ConfigError, match=r"objective: the kernel Distances\(\) is not positive semi"
    ):
        planned(tiny(evaluators={}, source=source, objective=objective))
