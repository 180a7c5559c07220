"""Twenty updates of the four released codes, from given weights on given batches.

The golden files hold what the releases' PyTorch code gives in float64; here the
project's own configs, importers and update do the same. Inputs are made from names,
shapes and seeds alone. Of an array eight numbers are stored: its length, the length of
its movement, the projection of that on a drawn direction, and five entries.
"""

import dataclasses
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

from jax_rcl import checkpoint, parallel
from jax_rcl import config as configs
from jax_rcl.train import step as train_step
from jax_rcl.weights import clip, moco, uniformity
from jax_rcl.weights.imports import (
    ImportClip,
    ImportMoCo,
    ImportThanos,
    ImportUniformity,
)

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "trajectories"
STEPS = 20
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073]).reshape(3, 1, 1)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711]).reshape(3, 1, 1)


# Inputs.


def weights(golden, *, filled, before=""):
    """Arrays by the release's names; batch statistics are `filled`, or 0 and 1."""
    found = {}
    for name, text in zip(golden["shape_names"], golden["shapes"], strict=True):
        name, shape = f"{before}{name}", tuple(map(int, str(text).split()))
        leaf = name.rpartition(".")[2]
        if leaf == "num_batches_tracked":
            continue
        x = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if leaf == "running_var":
            x = 1 + 0.5 * np.abs(x) if filled else np.ones(shape)
        elif leaf == "running_mean":
            x = 0.1 * x if filled else np.zeros(shape)
        elif leaf == "weight" and len(shape) == 1:
            x = 1 + 0.1 * x
        elif len(shape) >= 2 and leaf != "bias":
            x = x * np.sqrt((2.0 if len(shape) == 4 else 1.0) / np.prod(shape[1:]))
        else:
            x = 0.1 * x
        found[name] = x.astype(np.float32)
    return found


def images(seed, n, views, side, labels=None):
    """[n, views, 3, side, side] in [0, 1]: a pattern of the example, and noise."""
    random = np.random.RandomState(seed)
    base = random.rand(n, 1, 3, 4, 4)
    if labels is not None:
        classes = np.random.RandomState(777).rand(int(labels.max()) + 1, 1, 3, 4, 4)
        base = 0.5 * base + 0.5 * classes[labels]
    base = base.repeat(side // 4, axis=3).repeat(side // 4, axis=4)
    noise = random.rand(n, views, 3, side, side)
    return (0.7 * base + 0.3 * noise).astype(np.float32)


def last(x):
    """Channels last, [..., h, w, c]."""
    return np.moveaxis(x, -3, -1)


def digest(name, x, start):
    x, start = (np.asarray(each, np.float64).ravel() for each in (x, start))
    direction = np.random.RandomState(zlib.crc32(name.encode()) ^ 1)
    r = direction.standard_normal(x.size)
    first, moved = np.full(5, np.nan), x - start
    first[: min(5, x.size)] = x[:5]
    lengths = [np.linalg.norm(x), np.linalg.norm(moved)]
    return np.array([*lengths, moved @ r / np.linalg.norm(r), *first])


# What is trained.


@dataclasses.dataclass
class Case:
    """A system: its config, how long an epoch is, its inputs, and its names.

    Attributes:
      rule: fills variables from a file of the release's weights.
      batch: arrays of the update of a number, and of the golden file.
      named: arrays by the release's names, of variables.
    """

    config: str
    overrides: dict[str, str]
    steps_per_epoch: int
    total_steps: int
    rule: object
    batch: object
    named: object
    filled: bool = False


def of_thanos(step, golden):
    labels = golden["labels"][step]
    return {
        "views": last(images(100 + step, 8, 2, 32, labels)),
        "label": labels.astype(np.int32),
    }


def of_moco(step, golden):
    three = last(images(200 + step, 16, 3, 32))
    query = three[:, 0]
    side = query.shape[1] // 2
    negative = np.roll(query, (side, side), axis=(1, 2))
    return {"views": three[:, :2], "negatives": negative[:, None]}


def of_uniformity(step, golden):
    prior = 10 * np.random.RandomState(400 + step).standard_normal((16, 64))
    return {"views": last(images(300 + step, 16, 2, 32)), "prior": np.float32(prior)}


def of_student(step, golden):
    clean = images(500 + step, 12, 1, 64)[:, 0].astype(np.float64)
    shown = np.random.RandomState(600 + step).rand(12, 1, 64, 64) >= 0.5
    return {"clean": last(seen(clean)), "distorted": last(seen(clean * shown))}


def seen(image):
    """An image that is, once it is normalised, what float16 holds."""
    half = ((image - CLIP_MEAN) / CLIP_STD).astype(np.float16).astype(np.float64)
    return half * CLIP_STD + CLIP_MEAN


def thanos_names(variables):
    return checkpoint.flat(variables)


def uniformity_names(variables):
    params, stats = variables.params, variables.memory
    tree = {"encoder": {"params": params["encoder"], "batch_stats": stats["encoder"]}}
    tree |= {name: {"params": params[name]} for name in ("fc", "projector")}
    return uniformity.from_variables(tree)


def moco_names(variables):
    params, memory = variables.params, variables.memory
    tree = {
        "encoder": {"params": params["encoder"], "batch_stats": memory["encoder"]},
        "projector": {"params": params["projector"]},
        **{name: memory[name] for name in ("slow", "queue", "cursor")},
    }
    return moco.from_variables(tree)


def student_names(variables):
    own = variables.params["encoder"], variables.memory["encoder"]
    tree = {"visual": dict(zip(("params", "batch_stats"), own, strict=True))}
    return {
        name.removeprefix("visual."): x for name, x in clip.from_variables(tree).items()
    }


RATES = "patches attention units depth queries".split()
CASES = {
    "thanos_spread": Case(
        "thanos_coarse.py:data=cifar10,method=spread,form=released",
        {
            "objective.encoder.encoder.compute": "float64",
            "optimizer.schedule.period": "3.0",
            **{f"objective.encoder.encoder.drop.{name}": "0.0" for name in RATES},
        },
        steps_per_epoch=3,
        total_steps=STEPS,
        rule=lambda file: ImportThanos(file, "everything"),
        batch=of_thanos,
        named=thanos_names,
        filled=True,
    ),
    "moco_v2": Case(
        "imagenet100_moco.py:negatives=patch,depth=10,epochs=4,queue=64",
        {
            "objective.encoder.encoder.compute": "float64",
            "objective.slow_starts": "as given",
        },
        steps_per_epoch=5,
        total_steps=STEPS,
        rule=lambda file: ImportMoCo(file, "everything"),
        batch=of_moco,
        named=moco_names,
    ),
    "uniformity_lars": Case(
        "imagenet100_uniformity.py:prior=x,depth=10,batch=16,epochs=4",
        {"objective.encoder.encoder.compute": "float64"},
        steps_per_epoch=5,
        total_steps=STEPS,
        rule=ImportUniformity,
        batch=of_uniformity,
        named=uniformity_names,
    ),
    "student_st": Case(
        "clip_student.py:clip={file},distortion=mask50,classes=none,batch_size=12,"
        "teacher_norm=batch,loss=simclr_st",
        {"objective.encoder.encoder.compute": "float64"},
        steps_per_epoch=3,
        total_steps=75,
        rule=ImportClip,
        batch=of_student,
        named=student_names,
        filled=True,
    ),
}


def start_of(name, golden, tmp_path):
    """The weights that a run starts with, in a file, and by the release's names."""
    case = CASES[name]
    before = "visual." if name == "student_st" else ""
    state = weights(golden, filled=case.filled, before=before)
    if name == "student_st":  # as CLIP's loader rounds them
        state = {k: np.float32(np.float16(x)) for k, x in state.items()}
    if name == "moco_v2":
        queue = np.random.RandomState(42).standard_normal((128, 64))
        for key in list(state):
            if "encoder_q" in key:
                state[key.replace("encoder_q", "encoder_k")] = state[key]
        state["queue"] = np.float32(queue / np.linalg.norm(queue, axis=0))
        state["queue_ptr"] = np.zeros(1, np.int64)
    file = tmp_path / "weights.npz"
    np.savez(file, **state)
    return str(file)


def run(name, golden, tmp_path, kind):
    """Losses of the updates, and variables at the start, after one and at the end."""
    case = CASES[name]
    file = start_of(name, golden, tmp_path)
    made = configs.load(f"{ROOT}/configs/{case.config.format(file=file)}")
    for path, text in case.overrides.items():
        if kind == "float64" or text != "float64":
            configs.override(made, path, text)
    objective = configs.build(made.objective, "objective")
    run = {"total_steps": case.total_steps, "steps_per_epoch": case.steps_per_epoch}

    def cast(tree):
        def one(x):
            x = np.asarray(x)
            return x.astype(kind) if np.issubdtype(x.dtype, np.floating) else x

        return jax.tree.map(one, tree)

    batches = [cast(case.batch(step, golden)) for step in range(STEPS)]
    mesh = parallel.make_mesh(jax.devices()[:1])
    shapes = jax.eval_shape(objective.init, jax.random.key(0), batches[0])
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    variables = cast(variables)
    rules = [case.rule(file)]
    if name == "student_st":
        rules = configs.build(made.init_from)
    for rule in rules:
        variables = rule(variables)
    batch_size = len(next(iter(batches[0].values())))
    optimizer = configs.build(made.optimizer).build(
        variables.params, **run, batch_size=batch_size
    )
    state = train_step.TrainState(
        np.int32(0), jax.random.key(0), variables, optimizer.init(variables.params)
    )
    update = train_step.make_update(
        objective, lambda clock, batch: batch, optimizer, total_steps=case.total_steps
    )
    step = train_step.make_step(update, mesh)
    state, losses, kept = parallel.replicate(state, mesh), [], [cast(variables)]
    for number, batch in enumerate(batches):
        stacked = {key: x[None] for key, x in batch.items()}
        count = parallel.replicate(np.int32(1), mesh)
        state, metrics = step(state, count, {}, parallel.put_steps(stacked, mesh))
        losses.append(float(metrics["loss"][0]))
        if number in (0, STEPS - 1):
            kept.append(jax.device_get(state.variables))
    return np.array(losses), [case.named(each) for each in kept]


def same_arrays(golden, key, found, start, tolerance):
    """Compares the digests of arrays, but for a bias that only rounding moves."""
    known = {name.removeprefix("module."): name for name in found}
    compared = 0
    for name, expected in zip(map(str, golden["names"]), golden[key], strict=True):
        if name.endswith("k_proj.bias"):
            continue
        x, x0 = (tree[known[name]] for tree in (found, start))
        scale = max(np.abs(np.asarray(x)).max(), expected[0])
        np.testing.assert_allclose(
            digest(name, x, x0),
            expected,
            rtol=tolerance,
            atol=tolerance * scale,
            err_msg=f"{name} {key}",
        )
        compared += 1
    assert compared > 40


@pytest.fixture
def optimized():
    """Programs are made fast: here they run for longer than they are compiled."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", CASES)
def test_twenty_updates_in_float64_are_those_of_the_release(name, tmp_path):
    golden = np.load(GOLDEN / f"{name}.npz")
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        losses, (start, first, final) = run(name, golden, tmp_path, "float64")
    np.testing.assert_allclose(losses, golden["loss"], rtol=1e-11)
    same_arrays(golden, "after1", first, start, 1e-9)
    same_arrays(golden, "final", final, start, 1e-9)


# Adam's first steps are signs, and with batch statistics rounding grows: of a student,
# losses in float32 agree to 4e-3 in twenty updates.
@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", ["thanos_spread", "uniformity_lars"])
def test_twenty_updates_in_float32_stay_near_the_release(name, tmp_path):
    golden = np.load(GOLDEN / f"{name}.npz")
    losses, _ = run(name, golden, tmp_path, "float32")
    np.testing.assert_allclose(losses, golden["loss"], rtol=1e-4)
