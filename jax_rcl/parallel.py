"""The data axis: the only module that knows there are devices and processes.

Inside `data_parallel` every array of a batch is one device's share, [b, ...], and
everything else is the same on all devices. A loss becomes global by `gather`ing what it
compares and by `mean`ing what it returns, and by nothing else: the mean is inside the
function that is differentiated, so the gradient is already that of the global loss (JAX
inserts the sum over devices), and gradients are never averaged.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

Tree = Any
DATA = "data"
"""Name of the mesh axis that a batch is split over; BatchNorm synchronises over it."""

_SHARE, _WHOLE = PartitionSpec(DATA), PartitionSpec()


# Outside the step: processes, devices, placing arrays.


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Joins the other processes of a multi-process run, if there are any.

    Without arguments, JAX asks the environment: SLURM, Open MPI, Cloud TPU and GKE
    describe themselves; elsewhere this is a run of one process. The coordinator is
    `host:port` of process 0, `processes` how many there are.
    """
    flags = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in flags.items() if value is None]
    if len(missing) == len(flags):
        if jax.distributed.is_initialized():
            return
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            # JAX's words for "no cluster here", and for a notebook in which it has
            # already computed something; a cluster that fails raises something else.
            known = ("coordinator_address", "must be called before")
            if not any(words in str(error) for words in known):
                raise
        return
    if missing:
        raise ValueError(
            "a multi-process run is described by --coordinator, --processes and "
            f"--process together; missing: {', '.join(missing)}."
        )
    jax.distributed.initialize(coordinator, processes, process)


def process_index() -> int:
    """Number of this process, from 0."""
    return jax.process_index()


def process_count() -> int:
    """How many processes take part in this run."""
    return jax.process_count()


def is_main() -> bool:
    """Whether this process writes files and prints; exactly one does."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has reached the barrier of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(flag: bool) -> bool:
    """Whether `flag` holds on any process; the same answer on all of them."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


class Elsewhere(RuntimeError):
    """The main process has ended the run, for a reason that it shows."""


def raise_everywhere(error: Exception | None) -> None:
    """Raises an error of the main process there, and `Elsewhere` on all others.

    None raises nothing; all processes call it at the same point, whatever they have.
    """
    if agree(error is not None):
        told = error or Elsewhere("process 0 has ended the run, and says why.")
        vars(told)["everywhere"] = True
        raise told


def ends_everywhere(error: BaseException | None) -> bool:
    """Whether all of several processes end by an error, or with it: none waits then."""
    return jax.process_count() > 1 and getattr(error, "everywhere", False)


def stop() -> None:
    """Leaves the other processes, if there are any, at the same time as they do."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def make_mesh(devices: Any = None) -> Mesh:
    """A mesh with one axis, `DATA`, over `devices` (default: all of all processes)."""
    devices = list(jax.devices() if devices is None else devices)
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), (DATA,), devices=devices, axis_types=auto)


def device_name() -> str:
    """The kind of a device, such as `NVIDIA H200` or `cpu`."""
    return jax.devices()[0].device_kind


def run_once(function: Callable, *args: Any) -> Any:
    """`jax.jit` for what runs once: XLA compiles it in a third of the time on a CPU."""
    unoptimized = jax.config.values["jax_disable_most_optimizations"]
    quick = jax.default_backend() == "cpu" and not unoptimized
    options = {"xla_backend_optimization_level": 1} if quick else None
    return jax.jit(function, compiler_options=options)(*args)


def put(tree: Tree, mesh: Mesh) -> Tree:
    """Splits a batch over the devices; each process gives its [n / processes, ...]."""
    return _put(tree, NamedSharding(mesh, _SHARE))


def put_steps(tree: Tree, mesh: Mesh) -> Tree:
    """`put` for the batches of several steps, stacked: [steps, n / processes, ...]."""
    return _put(tree, split_steps(mesh))


def _put(tree: Tree, sharding: NamedSharding) -> Tree:
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree
    )


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Places the same arrays on every device of `mesh`; typed random keys included."""
    whole = NamedSharding(mesh, _WHOLE)

    def place(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            data = place(jax.random.key_data(x))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        return jax.make_array_from_process_local_data(whole, np.asarray(x))

    return jax.tree.map(place, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that are the same on every device of `mesh`."""
    return NamedSharding(mesh, _WHOLE)


def here() -> SingleDeviceSharding:
    """The sharding of arrays that are only on this process's first device."""
    return SingleDeviceSharding(jax.local_devices()[0])


def split_steps(mesh: Mesh) -> NamedSharding:
    """The sharding that `put_steps` gives."""
    return NamedSharding(mesh, PartitionSpec(None, DATA))


def fetch(tree: Tree) -> Tree:
    """Copies whole arrays to numpy on every process, also those split over devices."""

    def one(x: Any) -> np.ndarray:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            if not x.is_fully_replicated:
                return np.asarray(multihost_utils.process_allgather(x, tiled=True))
            x = x.addressable_data(0)
        return np.asarray(x)

    return jax.tree.map(one, tree)


def spread(arrays: Tree, mesh: Mesh) -> Tree:
    """Lays a whole data set [m, ...] out over the devices, rows split evenly.

    Each device holds 1 / devices of the rows, to be read with `take`. Row 0 is repeated
    at the end until the devices divide the rows. Every process passes all rows.
    """
    sharding = NamedSharding(mesh, _SHARE)
    count = mesh.size

    def one(x: np.ndarray) -> jax.Array:
        rows = -(-len(x) // count) * count

        def part(index: Any) -> np.ndarray:
            places = np.arange(rows)[index[0]]
            return x[np.where(places < len(x), places, 0)]

        return jax.make_array_from_callback((rows, *x.shape[1:]), sharding, part)

    return jax.tree.map(one, arrays)


def on_devices(images: jax.Array | np.ndarray, mesh: Mesh) -> jax.Array:
    """`spread` for one array; from one device it goes to others without the host."""
    local = isinstance(images, jax.Array) and images.is_fully_addressable
    if not isinstance(images, jax.Array) or (local and process_count() > 1):
        return spread(np.asarray(images), mesh)
    missing = -len(images) % mesh.size
    if missing:
        more = jnp.broadcast_to(images[:1], (missing, *images.shape[1:]))
        images = jnp.concatenate([images, more])
    return jax.device_put(images, NamedSharding(mesh, _SHARE))


# Around the step.


def data_parallel(
    step: Callable[..., Tree],
    mesh: Mesh,
    *,
    whole: int = 1,
    axes: tuple[int, ...] = (0,),
) -> Callable[..., Tree]:
    """Runs `step(*whole, *shares) -> whole` on every device of `mesh`.

    Each device gets the first `whole` arguments the same everywhere and its share of
    each of the others, split along `axes`; what `step` returns is the same everywhere.
    """
    shares = tuple(PartitionSpec(*[None] * axis, DATA) for axis in axes)
    in_specs = (_WHOLE,) * whole + shares
    return jax.shard_map(step, mesh=mesh, in_specs=in_specs, out_specs=_WHOLE)


def over_shares(
    function: Callable[..., Tree], mesh: Mesh, *, whole: int = 1
) -> Callable[..., Tree]:
    """Runs `function(*whole, share) -> share` on every device; joins the shares."""
    in_specs = (_WHOLE,) * whole + (_SHARE,)
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=_SHARE)


# Inside the step.


def gather(x: jax.Array) -> jax.Array:
    """Concatenates the devices' shares, [b, ...] -> [n, ...], with a gradient."""
    return lax.all_gather(x, DATA, axis=0, tiled=True)


def gather_constant(x: jax.Array) -> jax.Array:
    """`gather` without a gradient, for what is kept, such as keys for a queue.

    A sum over devices of disjoint shares: exact, and known to JAX to be the same on
    every device, so that the result may leave the step (`gather`'s may not).
    """
    count, index = lax.axis_size(DATA), lax.axis_index(DATA)
    empty = lax.pcast(jnp.zeros((count, *x.shape), x.dtype), DATA, to="varying")
    own = lax.dynamic_update_index_in_dim(empty, lax.stop_gradient(x), index, axis=0)
    return lax.psum(own, DATA).reshape(-1, *x.shape[1:])


def mean(tree: Tree) -> Tree:
    """Mean over all axes and all devices, leaf by leaf; gives replicated scalars."""
    return jax.tree.map(lambda x: lax.pmean(jnp.mean(x), DATA), tree)


def device_average(tree: Tree) -> Tree:
    """Averages over devices leaf by leaf, shapes kept; the same on every device."""
    return jax.tree.map(lambda x: lax.pmean(x, DATA), tree)


def global_count(count: int) -> int:
    """Examples in the global batch, n, where a device has `count`, b."""
    return lax.axis_size(DATA) * count


def shuffle(x: jax.Array, key: jax.Array) -> jax.Array:
    """Exchanges examples over the global batch, [b, ...] -> [b, ...].

    The permutation is that of `key`, which is the same on every device.
    """
    everyone = gather(x)
    order = jax.random.permutation(key, len(everyone))
    return everyone[order[example_ids(len(x))]]


def unshuffle(x: jax.Array, key: jax.Array) -> jax.Array:
    """Undoes `shuffle` by the same key."""
    everyone = gather(x)
    order = jax.random.permutation(key, len(everyone))
    return everyone[jnp.argsort(order)[example_ids(len(x))]]


def example_ids(count: int) -> jax.Array:
    """Places in the global batch of a device's `count` examples, int32 [b]."""
    return lax.axis_index(DATA) * count + jnp.arange(count, dtype=jnp.int32)


def example_keys(key: jax.Array, count: int) -> jax.Array:
    """One random key for each of a device's `count` examples.

    Keys follow the example's place in the global batch, so that results do not depend
    on the number of devices.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, example_ids(count))


def take(arrays: Tree, indices: jax.Array) -> Tree:
    """Rows `indices` [b] of arrays laid out by `spread`; each device its own indices.

    Every device looks up the rows it holds of those that any device wants; the sum of
    these disjoint answers is exact.
    """
    wanted = gather(indices)
    index = lax.axis_index(DATA)

    def one(x: jax.Array) -> jax.Array:
        place = wanted - index * len(x)
        present = (place >= 0) & (place < len(x))
        rows = jnp.take(x, jnp.where(present, place, 0), axis=0)
        mask = present.reshape(-1, *[1] * (x.ndim - 1))
        rows = jnp.where(mask, rows, jnp.zeros_like(rows))
        return lax.psum_scatter(rows, DATA, scatter_dimension=0, tiled=True)

    return jax.tree.map(one, arrays)


def memory_stats(mesh: Mesh) -> dict[str, int]:
    """Bytes of one device, such as `bytes_limit`; empty for a CPU, which says none."""
    return mesh.local_devices[0].memory_stats() or {}
