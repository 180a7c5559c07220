"""What can be known before the first compilation, and every error found by looking."""

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
from jax_rcl.config.types import ConfigError
from jax_rcl.core import Batch, Clock, Operation, Source, Tree, Variables
from jax_rcl.data import records
from jax_rcl.train import step as train_step

MOST_CHECKED = 1024
"""Records that an objective is shown before a run, at most."""

CPU_RESIDENT_BYTES = 2 * 2**30
"""What "auto" lays out in memory where the device does not say how much it has."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """An experiment made definite by its data and its devices.

    Attributes:
      steps_per_epoch: whole batches in a pass over the source.
      total_steps: updates from the first to the last.
      resident: whether the data set is laid out in device memory.
      record: shapes of one record of the source, by key.
      augmented: shapes of a global batch after augmentation, by key.
      variables: shapes, with the arrays that `init_from` brings in their places.
      optimizer: built for these parameters.
    """

    steps_per_epoch: int
    total_steps: int
    resident: bool
    record: dict[str, jax.ShapeDtypeStruct]
    augmented: dict[str, jax.ShapeDtypeStruct]
    variables: Variables
    optimizer: optax.GradientTransformation

    def example(self) -> dict[str, jax.Array]:
        """Zeros in the shapes of one augmented example, to initialise networks with."""
        return {
            k: jnp.zeros((1, *x.shape[1:]), x.dtype) for k, x in self.augmented.items()
        }


def plan(experiment: Experiment, mesh: Mesh) -> Plan:
    """Works out shapes and counts, with one clear error for what cannot work.

    The step is not compiled: networks are traced on shapes alone. Only what an
    objective tries on some records (`check_values`) is computed.

    Raises:
      ConfigError: devices that do not divide the batch, a batch larger than the source,
        a key that the objective reads and nothing provides, labels of a resident
        source that it has no names for, and what the parts of the experiment refuse.
    """
    with refusals("source"):
        count, record = len(experiment.source), shapes_of(experiment.source[0])
    n = experiment.batch_size
    steps_per_epoch = whole_batches(n, count, mesh)
    total_steps = experiment.steps
    if total_steps is None:
        total_steps = experiment.epochs * steps_per_epoch  # pyright: ignore[reportOptionalOperand] one of the two is given
    with refusals("augment"):
        augmented = augmented_shapes(experiment, mesh, record)
    with refusals("objective"):
        variables = variable_shapes(experiment, augmented)
        check_layers(experiment, layer_shapes(experiment, variables, augmented))
        check_loss(experiment, mesh, variables, augmented)
        check_values(experiment, record)
    own = variables
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
    check_images(experiment, own)
    check_best(experiment, total_steps, steps_per_epoch)
    resident = lays_out(experiment, mesh, record)
    check_groups(experiment)
    # Where reading all labels costs little beside reading all that will be laid out.
    if resident and "label" in experiment.objective.needs & set(record):
        with refusals("source"):
            records.check_labels(experiment.source)
    return Plan(
        steps_per_epoch, total_steps, resident, record, augmented, variables, optimizer
    )


def whole_batches(n: int, count: int, mesh: Mesh) -> int:
    """How many batches of n examples a pass over `count` of them gives.

    Raises:
      ConfigError: none, or the devices do not divide n; the message says what would do.
    """
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
    """Traces the loss on a global batch: what an objective can tell from shapes.

    Raises:
      ConfigError: the memory that it gives back has another shape than before.
      ValueError: what the objective or a network refuses.
    """

    def memory_after(whole: tuple[Variables, Clock], batch: Batch) -> Tree:
        return experiment.objective.loss(whole[0], batch, whole[1]).memory

    clock = jax.eval_shape(clock_of_start)
    after = jax.eval_shape(
        parallel.data_parallel(memory_after, mesh), (variables, clock), augmented
    )
    if shapes_only(after) != shapes_only(variables.memory):
        raise ConfigError(
            f"{type(experiment.objective).__name__}.loss gives back another memory "
            f"than `init` made: {shapes_only(after)} instead of "
            f"{shapes_only(variables.memory)}."
        )


def check_values(
    experiment: Experiment, record: dict[str, jax.ShapeDtypeStruct]
) -> None:
    """Shows some records to an objective that refuses data by their values.

    They are taken evenly from the source, a batch of them at most, and it gets what it
    reads of them as the source gives it.

    Raises:
      ValueError: what the objective refuses.
    """
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


def clock_of_start() -> Clock:
    """A clock at step 0, of which only shapes matter."""
    return train_step.clocks(jax.random.key(0), jnp.zeros((), jnp.int32), 1)[0]


def layer_shapes(
    experiment: Experiment,
    variables: Variables,
    augmented: dict[str, jax.ShapeDtypeStruct],
) -> dict[str, jax.ShapeDtypeStruct]:
    """What the objective's `encode` gives for one image, by layer."""
    # Of the size that the networks are trained on.
    if "views" in augmented:
        shape = augmented["views"].shape[2:]
    else:
        shape = augmented["clean" if "clean" in augmented else "image"].shape[1:]
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(experiment.objective.encode, variables, images)


def check_layers(
    experiment: Experiment, layers: dict[str, jax.ShapeDtypeStruct]
) -> None:
    """Compares the layers with what evaluators read and with the number of classes.

    A label beyond the last logit would cost nothing and teach nothing, silently.

    Raises:
      ConfigError: an evaluator reads a layer that is not there, or there are fewer
        logits than classes in the source.
    """
    for name, evaluator in experiment.evaluators.items():
        missing = sorted(evaluator.needs - set(layers))
        if missing:
            raise ConfigError(
                f"evaluators.{name} reads the layer {', '.join(missing)}, but the "
                f"objective gives {', '.join(layers)}."
            )
    classes = len(experiment.source.class_names)
    if "logits" in layers and layers["logits"].shape[-1] < classes:
        raise ConfigError(
            f"{type(experiment.objective).__name__} gives {layers['logits'].shape[-1]} "
            f"logits for a source of {classes} classes; give its head as many outputs."
        )


def check_groups(experiment: Experiment) -> None:
    """Compares the groups that an objective weighs with those of the source.

    Raises:
      ConfigError: the source names another number of groups.
    """
    weighed = getattr(experiment.objective, "groups", None)
    names = records.group_names_of(experiment.source)
    if "group" in experiment.objective.needs and weighed not in (None, len(names)):
        raise ConfigError(
            f"{type(experiment.objective).__name__}.groups is {weighed}, but the "
            f"source has {len(names)} groups: {'; '.join(names)}. Set it to that."
        )


def check_images(experiment: Experiment, variables: Variables) -> None:
    """Traces `encode` on the images of every evaluator, prepared as it prepares them.

    Raises:
      ConfigError: the network cannot take them, such as a transformer that learned
        positions for crops of another size.
    """
    for name, evaluator in experiment.evaluators.items():
        with refusals(f"evaluators.{name}"):
            shapes = {
                (np.shape(source[0]["image"]), preprocess)
                for source, preprocess in sources_of(evaluator)
            }
        for shape, preprocess in shapes:
            images = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
            with refusals(f"evaluators.{name}"):
                shown = jax.eval_shape(functools.partial(prepare, preprocess), images)
            try:
                jax.eval_shape(experiment.objective.encode, variables, shown)
            except Exception as error:
                raise ConfigError(
                    f"evaluators.{name}: the network was made for the views of the "
                    f"training and cannot take images {list(shown.shape[1:])}: {error}"
                ) from error


def sources_of(part: Any) -> Iterator[tuple[Source, Operation | None]]:
    """The sources inside an evaluator, each with what prepares its images.

    That is the `preprocess` of the innermost part around the source that has one. Of a
    part that makes its sources itself and lists them as `sources`, the first one stands
    for all.
    """

    def found(part: Any, preprocess: Operation | None) -> Iterator[Any]:
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
            yield from found(each, preprocess)

    return found(part, None)


def check_best(experiment: Experiment, total_steps: int, steps_per_epoch: int) -> None:
    """Compares what says which state is best with the evaluators that there are.

    Raises:
      ConfigError: no evaluator has such a number, it never runs, or the name of another
        is that of the numbers of the best state.
    """
    if experiment.best is None:
        return
    name = experiment.best.evaluator(experiment.evaluators)
    when = experiment.evaluators[name].when
    known = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    if not any(when.due(step, **known) for step in range(1, total_steps + 1)):
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
    """Makes an error of a part of the config say which part it was."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, OSError, ImportError) as error:
        raise ConfigError(f"{part}: {error}") from error


def shapes_of(record: dict[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of one record."""
    arrays = {key: np.asarray(value) for key, value in record.items()}
    return {key: jax.ShapeDtypeStruct(x.shape, x.dtype) for key, x in arrays.items()}


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
            f"the batch has {', '.join(sorted(augmented))}: {augment_hint(missing)}"
        )
    return augmented


def augment_hint(missing: list[str]) -> str:
    """What to write to get a key that is missing from the batch."""
    if missing == ["label"]:
        return "use a source that has labels, or a method that needs none."
    return "use an augment that adds it (as Views adds views), or a source that has it."


def variable_shapes(
    experiment: Experiment, augmented: dict[str, jax.ShapeDtypeStruct]
) -> Variables:
    """Shapes of the method's arrays; an error inside a network is an error here."""
    one = {
        k: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
        for k, x in augmented.items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(experiment.objective.init, key, one)


def shapes_only(tree: Tree) -> Tree:
    """`jax.ShapeDtypeStruct` for every leaf."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def lays_out(
    experiment: Experiment, mesh: Mesh, record: dict[str, jax.ShapeDtypeStruct]
) -> bool:
    """Whether the data set is laid out in device memory, as `resident` says."""
    if experiment.resident != "auto":
        return experiment.resident == "always"
    limit = parallel.memory_limit(mesh)
    total = records.nbytes(experiment.source)
    if limit is None:
        return total <= CPU_RESIDENT_BYTES
    return total / mesh.size <= limit / 3
