"""The plan of a run: shapes and counts, and every error that needs no compilation."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jax_rcl import parallel
from jax_rcl.augment.compose import prepare
from jax_rcl.config.experiment import OF_BEST, Experiment
from jax_rcl.config.types import ConfigError, short
from jax_rcl.core import Batch, Clock, Operation, Source, Tree, Variables
from jax_rcl.data import records
from jax_rcl.data.folders import Photograph, in_short
from jax_rcl.data.frames import EXTENT
from jax_rcl.train import step as train_step

MOST_CHECKED = 1024
"""Most records that an objective checks before a run."""

CPU_RESIDENT_BYTES = 2 * 2**30
"""What "auto" lays out at most where the device does not say how much memory it has."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an experiment comes to with its data and its devices."""

    steps_per_epoch: int
    total_steps: int
    resident: bool  # whether the data set is laid out in device memory
    record: dict[str, jax.ShapeDtypeStruct]
    augmented: dict[str, jax.ShapeDtypeStruct]  # a global batch
    variables: Variables  # shapes; arrays where `init_from` gives some
    optimizer: optax.GradientTransformation

    def example(self) -> dict[str, jax.Array]:
        """Zeros in the shapes of one augmented example, to initialise networks with."""
        one = one_example(self.augmented)
        return {key: jnp.zeros(x.shape, x.dtype) for key, x in one.items()}


def plan(experiment: Experiment, mesh: Mesh) -> Plan:
    """Works out shapes and counts, with one clear error for what cannot work.

    Nothing is compiled: networks are traced on shapes alone. Only what an objective
    tries on some records (`check_values`) is computed.

    Raises:
      ConfigError: parts of the experiment do not fit together, or one is refused.
    """
    check_compute(experiment)
    with refusals("source"):
        records.check_drawn_last(experiment.source)
        count, first = len(experiment.source), experiment.source[0]
        check_fixed_shape(first)
    record = shapes_only({key: np.asarray(value) for key, value in first.items()})
    n = experiment.batch_size
    steps_per_epoch = whole_batches(n, count, mesh)
    total_steps = experiment.steps
    if total_steps is None:
        total_steps = experiment.epochs * steps_per_epoch  # pyright: ignore[reportOptionalOperand] one of the two is given
    check_classes(experiment, record)
    with refusals("augment"):
        augmented = augmented_shapes(experiment, mesh, record)
    with refusals("objective"):
        key = jax.eval_shape(lambda: jax.random.key(0))
        one = one_example(augmented)
        variables = jax.eval_shape(experiment.objective.init, key, one)
        check_layers(experiment, variables, one)
        check_loss(experiment, mesh, variables, augmented)
        check_values(experiment, record)
    fresh = variables
    with refusals("init_from"):
        for rule in experiment.init_from:
            variables = rule(variables)
    with refusals("optimizer"):
        optimizer = experiment.optimizer.build(
            shapes_only(variables.params),
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            batch_size=n,
        )
    for name, evaluator in experiment.evaluators.items():
        with refusals(f"evaluators.{name}"):
            evaluator.check()
    check_images(experiment, fresh)
    check_best(experiment, total_steps, steps_per_epoch)
    resident = is_resident(experiment, mesh)
    check_groups(experiment)
    # Reading all labels costs little beside reading everything to lay it out.
    if resident and "label" in experiment.objective.needs & set(record):
        with refusals("source"):
            records.check_labels(experiment.source)
    return Plan(
        steps_per_epoch, total_steps, resident, record, augmented, variables, optimizer
    )


def check_compute(experiment: Experiment) -> None:
    """Refuses float64 where JAX would compute in float32, with a mere warning."""
    if jax.config.values["jax_enable_x64"]:
        return
    for path, part in parts_below(experiment, ""):
        if getattr(part, "compute", None) == "float64":
            raise ConfigError(
                f"{path}.compute is 'float64', which JAX computes in float32 unless "
                f"the environment says JAX_ENABLE_X64=1 when the program starts. Set "
                f"it, or write 'float32'."
            )


def parts_below(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What an object is made of, with its path: dataclasses, and what they hold."""
    inner: dict[str, Any] = {}
    if isinstance(part, tuple):
        inner = {f"{path}[{i}]": each for i, each in enumerate(part)}
    elif isinstance(part, Mapping):
        inner = {f"{path}.{name}": each for name, each in part.items()}
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        yield path, part
        names = {field.name for field in dataclasses.fields(part)} - {"parent"}
        inner = {f"{path}.{n}".lstrip("."): getattr(part, n) for n in sorted(names)}
    for place, each in inner.items():
        yield from parts_below(each, place)


def whole_batches(n: int, count: int, mesh: Mesh) -> int:
    """How many batches of n examples a pass over `count` of them gives, at least 1."""
    if n % mesh.size:
        near = max(mesh.size, round(n / mesh.size) * mesh.size)
        raise ConfigError(
            f"batch_size {n} is not divisible by the {mesh.size} devices; try {near}."
        )
    if count < mesh.size:
        raise ConfigError(
            f"the source has {count} examples, fewer than the {mesh.size} devices, "
            "each of which needs one: use fewer devices."
        )
    if count < n:
        raise ConfigError(
            f"batch_size {n} is larger than the source, which has {count} examples; "
            f"the largest that fits is {count // mesh.size * mesh.size}."
        )
    return count // n


def check_loss(
    experiment: Experiment,
    mesh: Mesh,
    variables: Variables,
    augmented: dict[str, jax.ShapeDtypeStruct],
) -> None:
    """Traces the loss on a global batch and compares its memory with that of `init`."""

    def memory_after(whole: tuple[Variables, Clock], batch: Batch) -> Tree:
        return experiment.objective.loss(whole[0], batch, whole[1]).memory

    whole = variables, jax.eval_shape(clock_of_start)
    after = jax.eval_shape(parallel.data_parallel(memory_after, mesh), whole, augmented)
    if shapes_only(after) != shapes_only(variables.memory):
        raise ConfigError(
            f"{type(experiment.objective).__name__}.loss returns another memory "
            f"than `init` made: {shapes_only(after)} instead of "
            f"{shapes_only(variables.memory)}."
        )


def check_values(
    experiment: Experiment, record: dict[str, jax.ShapeDtypeStruct]
) -> None:
    """Lets an objective check records, a batch at most, evenly spaced."""
    check = getattr(experiment.objective, "check", None)
    read = sorted(experiment.objective.needs & set(record))
    if check is None or not read:
        return
    source = experiment.source
    count = min(len(source), experiment.batch_size, MOST_CHECKED)
    places = np.linspace(0, len(source) - 1, count).astype(int)
    priors = getattr(source, "priors", None)
    if read == ["prior"] and priors is not None:  # without decoding images
        check({"prior": priors[places]})
        return
    with ThreadPoolExecutor(records.THREADS) as pool:
        found = list(pool.map(source.__getitem__, places.tolist()))
    check({key: np.stack([one[key] for one in found]) for key in read})


def reads_progress(experiment: Experiment, mesh: Mesh, made: Plan) -> bool:
    """Whether the augmentation or the loss depends on how much of a run is done.

    They are traced without that number, which fails where something is computed of it.
    """
    n = experiment.batch_size
    batch = {
        k: jax.ShapeDtypeStruct((n, *x.shape), x.dtype) for k, x in made.record.items()
    }
    clock = dataclasses.replace(jax.eval_shape(clock_of_start), progress=None)

    def outcome(whole: tuple[Variables, Clock], batch: Batch) -> Tree:
        batch = experiment.augment(whole[1], batch)
        found = experiment.objective.loss(whole[0], batch, whole[1])
        return found.memory

    whole = shapes_only(made.variables), clock
    try:
        jax.eval_shape(parallel.data_parallel(outcome, mesh), whole, batch)
    except Exception:  # whatever None raises
        return True
    return False


def clock_of_start() -> Clock:
    """A clock at step 0, of which only shapes matter."""
    return train_step.clocks(jax.random.key(0), jnp.zeros((), jnp.int32), 1)[0]


def check_layers(
    experiment: Experiment, variables: Variables, one: dict[str, jax.ShapeDtypeStruct]
) -> None:
    """Compares what evaluators read, and the number of classes, with what is encoded.

    `one` is an augmented example, whose images have the size of the training's.
    """
    # Views have an axis more than images.
    kind = next(key for key in ("views", "clean", "image") if key in one)
    images = jax.ShapeDtypeStruct((1, *one[kind].shape[-3:]), jnp.float32)
    layers = jax.eval_shape(experiment.objective.encode, variables, images)
    for name, evaluator in experiment.evaluators.items():
        missing = sorted(evaluator.needs - set(layers))
        if missing:
            raise ConfigError(
                f"evaluators.{name} reads the layer {', '.join(missing)}, but the "
                f"objective gives {', '.join(layers)}."
            )
    # A label beyond the last logit would cost nothing and teach nothing, silently.
    classes = len(experiment.source.class_names)
    if "logits" in layers and layers["logits"].shape[-1] < classes:
        raise ConfigError(
            f"{type(experiment.objective).__name__} gives {layers['logits'].shape[-1]} "
            f"logits for a source of {classes} classes; give its head as many outputs."
        )
    if "logits" in layers:
        check_head(experiment, layers["logits"].shape[-1])


def check_head(experiment: Experiment, outputs: int) -> None:
    """Compares the classes that a head learns with those of images that it is shown.

    Its answers would be compared with other labels without a word.
    """
    learnt = tuple(experiment.source.class_names)
    for name, evaluator in experiment.evaluators.items():
        if "logits" not in evaluator.needs:
            continue
        with refusals(f"evaluators.{name}"):
            # The classifier's own; evaluators compare others with these.
            test = next((source for source, _ in sources_of(evaluator)), None)
            shown = learnt if test is None else tuple(test.class_names)
            says = f"the head tells {outputs} classes apart: "
            if learnt and shown != learnt:
                odd = [x for x in shown if x not in learnt]
                missing = [x for x in learnt if x not in shown]
                differ = f"with {odd[0]!r}" if odd else "in another order"
                if missing and not odd:
                    differ = f"without {in_short(missing, len(learnt), 'classes')}"
                raise ValueError(
                    f"{says}those of {short(experiment.source)}, and {short(test)} "
                    f"has {len(shown)}, {differ}. Test on images of the same classes, "
                    f"named alike (an ImageFolder with `classes` and missing='skip' "
                    f"may have none of some), or train a head for these."
                )
            if len(shown) != outputs:
                raise ValueError(
                    f"{says}{short(test)} has {len(shown)}; give the head as many "
                    f"outputs."
                )


def check_classes(
    experiment: Experiment, record: dict[str, jax.ShapeDtypeStruct]
) -> None:
    """Refuses to learn from labels that are all the same."""
    names = experiment.source.class_names
    if "label" in experiment.objective.needs & set(record) and len(names) == 1:
        raise ConfigError(
            f"{type(experiment.objective).__name__} learns from labels, but the source "
            f"has one class, {names[0]!r}: nothing would be learned. Give it the "
            f"folder above, or a method without labels."
        )


def check_groups(experiment: Experiment) -> None:
    """Compares the groups that an objective weighs with those of the source."""
    weighed = getattr(experiment.objective, "groups", None)
    names = records.group_names_of(experiment.source)
    if "group" in experiment.objective.needs and weighed not in (None, len(names)):
        raise ConfigError(
            f"{type(experiment.objective).__name__}.groups is {weighed}, but the "
            f"source has {len(names)} groups: {'; '.join(names)}. Set it to that."
        )


def check_images(experiment: Experiment, variables: Variables) -> None:
    """Traces `encode` on the images of every evaluator, prepared as it prepares them.

    A transformer that learned positions for crops of another size cannot take them.
    """
    for name, evaluator in experiment.evaluators.items():
        with refusals(f"evaluators.{name}"):
            found = set()
            for source, preprocess in sources_of(evaluator):
                record = source[0]
                check_fixed_shape(record)
                found.add((np.shape(record["image"]), preprocess))
            for shape, preprocess in found:
                encoded_shapes(experiment, variables, shape, preprocess)


def check_fixed_shape(record: Mapping[str, Any]) -> None:
    """Raises ValueError for a photograph as it is, or in a frame, which has margins."""
    if isinstance(record.get("image"), Photograph):
        raise ValueError(
            "whole photographs differ in shape: give a size, such as "
            "ImageFolder(size=256), or cut them by RandomCrops around it."
        )
    if EXTENT in record:
        raise ValueError(
            "photographs in frames have black margins: cut them by RandomCrops, or "
            "make them Squares, around Framed or what was packed of it."
        )


def encoded_shapes(
    experiment: Experiment,
    variables: Variables,
    shape: tuple[int, ...],
    preprocess: Operation | None,
) -> dict[str, jax.ShapeDtypeStruct]:
    """What the objective's `encode` gives for an image of this shape, once prepared."""
    if len(shape) != 3:
        raise ValueError(
            f"images must be [h, w, c], and these are {list(shape)}, random crops for "
            f"training; give the same photographs as squares, such as "
            f"ImageFolder(size=256)."
        )
    image = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
    shown = jax.eval_shape(functools.partial(prepare, preprocess), image)
    try:
        return jax.eval_shape(experiment.objective.encode, variables, shown)
    except Exception as error:  # a network may raise anything
        raise ValueError(
            f"the network was made for the views of the training and cannot take "
            f"images {list(shown.shape[1:])}: {error} Set `preprocess`, or give others."
        ) from error


def sources_of(
    part: Any, preprocess: Operation | None = None
) -> Iterator[tuple[Source, Operation | None]]:
    """The sources inside an evaluator, each with what prepares its images.

    That is the `preprocess` of the innermost part around the source that has one. A
    part that makes its sources itself and lists them as `sources` is represented by the
    first.
    """
    if isinstance(part, Source):
        yield part, preprocess
        return
    preprocess = getattr(part, "preprocess", preprocess)
    inner: Any = ()
    if isinstance(part, tuple):
        inner = part
    elif isinstance(part, Mapping):
        inner = part.values()
    elif hasattr(part, "sources"):
        inner = part.sources[:1]
    elif dataclasses.is_dataclass(part):
        inner = [getattr(part, field.name) for field in dataclasses.fields(part)]
    for each in inner:
        yield from sources_of(each, preprocess)


def check_best(experiment: Experiment, total_steps: int, steps_per_epoch: int) -> None:
    """Checks that the evaluator of `best.monitor` exists and runs in training."""
    if experiment.best is None:
        return
    name = experiment.best.evaluator(experiment.evaluators)
    if not total_steps:
        raise ConfigError(
            "best keeps the best state of a training, and there are no steps: write "
            "best=None, or give steps or epochs."
        )
    when = experiment.evaluators[name].when
    length = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    if not any(when.due(step, **length) for step in range(1, total_steps + 1)):
        raise ConfigError(
            f"best.monitor is a number of '{name}', which does not run in training; "
            f"set evaluators.{name}.when."
        )
    for other in experiment.evaluators:
        if f"{other}/".startswith(OF_BEST):
            raise ConfigError(
                f"evaluators.{other} must have another name: '{OF_BEST}' begins the "
                "names of the numbers of the best state."
            )


@contextlib.contextmanager
def refusals(part: str) -> Iterator[None]:
    """Puts the part of the config before the message of an error that it raises."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, OSError, ImportError) as error:
        raise ConfigError(f"{part}: {error}") from error


def augmented_shapes(
    experiment: Experiment, mesh: Mesh, record: dict[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a global batch after augmentation; checks the objective's needs."""
    n = experiment.batch_size
    batch = {k: jax.ShapeDtypeStruct((n, *x.shape), x.dtype) for k, x in record.items()}
    clock = jax.eval_shape(clock_of_start)
    try:
        augment = parallel.over_shares(experiment.augment, mesh)
        augmented = jax.eval_shape(augment, clock, batch)
    except KeyError as error:
        raise ConfigError(
            f"augment reads {error}, but the source gives {', '.join(sorted(record))}."
        ) from error
    missing = sorted(experiment.objective.needs - set(augmented))
    if missing:
        raise ConfigError(
            f"{type(experiment.objective).__name__} reads {', '.join(missing)}, but "
            f"the batch has {', '.join(sorted(augmented))}: use an augment that adds "
            "it (as Views adds views), a source that has it, or a method that needs "
            "none."
        )
    return augmented


def one_example(
    batch: dict[str, jax.ShapeDtypeStruct],
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of one, which is enough to initialise networks with."""
    return jax.eval_shape(lambda rows: {key: x[:1] for key, x in rows.items()}, batch)


def shapes_only(tree: Tree) -> Tree:
    """`jax.ShapeDtypeStruct` for every leaf."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


# Any, as a check that it is a Source would look for data that need not be there.
def is_drawn(source: Any) -> bool:
    """Whether records of a source are drawn anew at each step, as of `RandomCrops`."""
    return hasattr(source, "draw_record")


def laid_out(experiment: Experiment) -> Any:
    """The source whose records can be laid out in device memory; None if none can."""
    source: Any = experiment.source
    return source.laid_out if is_drawn(source) else source


def is_resident(experiment: Experiment, mesh: Mesh) -> bool:
    """Whether the data set is laid out in device memory, as `resident` says."""
    source = laid_out(experiment)
    if source is None:
        if experiment.resident == "always":
            raise ConfigError(
                "resident is 'always', but whole photographs differ in shape. Put them "
                "into frames, RandomCrops(Framed(source, longest=500), …), or write "
                "resident='auto', which reads them as they are needed."
            )
        return False
    if experiment.resident != "auto":
        return experiment.resident == "always"
    limit = parallel.memory_stats(mesh).get("bytes_limit")
    total = records.nbytes(source)
    if limit is None:
        return total <= CPU_RESIDENT_BYTES
    return total / mesh.size <= limit / 3
