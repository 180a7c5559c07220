"""Measures decoupled uniformity: `python -m benchmarks.uniformity`.

Time and memory of the loss with its gradient: of centroids as they are, whole and in
blocks, and of kernel centroids. With --torch beside the formula in PyTorch, with an
inverse of K + λI as in the paper's released code. With --numerics how far float32 is
from float64 on kinds of priors whose kernels are hard to invert.
"""

import dataclasses
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from tqdm import tqdm

from benchmarks.harness import (
    Size,
    make_parser,
    markdown,
    median_seconds,
    milliseconds,
    parse,
    report,
)
from jax_rcl.losses.kernels import Cosine, Kernel, Rbf
from jax_rcl.losses.uniformity import (
    alignment,
    centroids,
    decoupled_uniformity,
    kernel_centroids,
    log_potentials,
)

RIDGE, SCALE, SIGMA = 0.01, 2.0, 20.0
"""λ and t of the paper's released code, and its σ for attributes."""

ALONE = "kernel centroids"
"""The row of the smoothing alone, of a given kernel; its value is the alignment."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """What one form of the loss costs, with its gradient, compiled.

    Attributes:
      name: of the form.
      seconds: median.
      temporary_bytes: memory for intermediate results, as the compiler says.
      value: of the loss.
      torch_seconds: of the formula in PyTorch, in float32; None where it was not run.
      torch_value: the loss that it gives in float64.
      apart: largest difference of the gradient here from PyTorch's in float64, in units
        of the largest component.
    """

    name: str
    seconds: float
    temporary_bytes: int
    value: float
    torch_seconds: float | None = None
    torch_value: float | None = None
    apart: float | None = None


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """How far float32 is from float64 for one kind of priors.

    Errors of arrays are relative, root mean square over root mean square.

    Attributes:
      name: of the kind.
      mean: of the kernel between different examples.
      condition: number of K + λI: largest eigenvalue over smallest.
      centroids: error of the kernel centroids.
      loss: absolute error of the loss.
      gradient: error of its gradient.
      inverse: error of the kernel centroids, had K + λI been inverted instead.
    """

    name: str
    mean: float
    condition: float
    centroids: float
    loss: float
    gradient: float
    inverse: float


SIZES = {
    "examples": Size(4096, "centroids", 2),
    "views": Size(2, "views of each example"),
    "dimension": Size(256, "numbers in an embedding"),
    "priors": Size(312, "numbers in a prior"),
    "block": Size(512, "columns in a block"),
    "repetitions": Size(5, "timed runs of each form; of PyTorch's three at most"),
}


def embeddings(n: int, v: int, d: int) -> Float32[np.ndarray, "n v d"]:
    """Random views that agree in part: a cosine of 2/3 in the mean."""
    random = np.random.default_rng(0)
    noise = 0.5**0.5 * random.normal(size=(n, v, d))
    return (random.normal(size=(n, 1, d)) + noise).astype(np.float32)


def attributes(n: int, p: int) -> Float32[np.ndarray, "n p"]:
    """Random bits, some more often set than others, a ninth in the mean."""
    random = np.random.default_rng(1)
    often = random.beta(0.5, 4, size=p)
    return (random.random((n, p)) < often).astype(np.float32)


def loss(
    z: Float[Array, "n v d"],
    priors: Float[Array, "n p"],
    *,
    kernel: Kernel | None,
    block: int | None = None,
) -> Float[Array, ""]:
    """Decoupled uniformity of views, of kernel centroids if there is a kernel."""
    c, ids = centroids(z), jnp.arange(len(z))
    if kernel is not None:
        c = kernel_centroids(kernel(priors), c, ridge=RIDGE)
    potentials = log_potentials(
        c, c, row_ids=ids, column_ids=ids, scale=SCALE, block=block
    )
    return decoupled_uniformity(potentials)


def smoothing(
    z: Float[Array, "n v d"], kernel: Float[Array, "n n"]
) -> Float[Array, ""]:
    """Mean alignment of kernel centroids, the kernel matrix given."""
    return alignment(kernel_centroids(kernel, centroids(z), ridge=RIDGE)).mean()


def forms(block: int) -> dict[str, Callable[..., jax.Array]]:
    """Forms of the loss by name, functions of embeddings and priors."""
    kernels: dict[str, Kernel | None] = {
        "no prior": None,
        f"Rbf({SIGMA:g})": Rbf(SIGMA),
        "Rbf, median": Rbf(1.0, unit="median"),
        "Cosine": Cosine(),
    }
    found = {name: functools.partial(loss, kernel=k) for name, k in kernels.items()}
    blocks = functools.partial(loss, kernel=None, block=block)
    return {f"no prior, blocks of {block}": blocks, **found, ALONE: smoothing}


def in_torch(
    name: str, z: Float[np.ndarray, "n v d"], priors: Float[np.ndarray, "n _"]
) -> Callable[[], tuple[float, Float[np.ndarray, "n v d"]]] | None:
    """The formula of a form in PyTorch, giving value and gradient; None for others."""
    # By name: not everybody who checks the types of this library has it.
    torch: Any = importlib.import_module("torch")
    given, x = torch.tensor(priors), torch.tensor(z, requires_grad=True)
    identity = torch.eye(len(z), dtype=x.dtype)

    def smoothed(c: Any, kernel: Any) -> Any:
        return torch.linalg.inv(kernel + RIDGE * identity) @ kernel @ c

    def gaussian() -> Any:
        squares = given.square().sum(1)
        squares = squares[:, None] + squares[None, :] - 2 * given @ given.T
        return torch.exp(-squares / (2 * SIGMA**2))

    def cosine() -> Any:
        directions = torch.nn.functional.normalize(given, dim=1)
        return directions @ directions.T

    def uniformity(c: Any) -> Any:
        return torch.nn.functional.pdist(c).square().mul(-SCALE).exp().mean().log()

    formulas: dict[str, Callable[[Any], Any]] = {
        "no prior": uniformity,
        f"Rbf({SIGMA:g})": lambda c: uniformity(smoothed(c, gaussian())),
        "Cosine": lambda c: uniformity(smoothed(c, cosine())),
        ALONE: lambda c: -smoothed(c, given).square().sum(1).mean(),
    }
    if name not in formulas:
        return None

    def run() -> tuple[float, Float[np.ndarray, "n v d"]]:
        value = formulas[name](torch.nn.functional.normalize(x, dim=-1).mean(1))
        (gradient,) = torch.autograd.grad(value, x)
        return value.item(), gradient.numpy()

    return run


def timing(
    name: str,
    form: Callable[..., jax.Array],
    z: Float32[np.ndarray, "n v d"],
    priors: Float32[np.ndarray, "n _"],
    *,
    repetitions: int,
    torch: bool,
) -> Timing:
    """Times one form, and the same in PyTorch where that is wanted and there."""
    placed = jax.device_put((z, priors))
    compiled: Any = jax.jit(jax.value_and_grad(form)).lower(*placed).compile()
    seconds = median_seconds(lambda: compiled(*placed), repetitions)
    value, gradient = (np.asarray(x) for x in compiled(*placed))
    memory = compiled.memory_analysis().temp_size_in_bytes
    row = Timing(name, seconds, memory, float(value))
    single = in_torch(name, z, priors) if torch else None
    doubles = (z.astype(np.float64), priors.astype(np.float64))
    double = in_torch(name, *doubles) if torch else None
    if single is None or double is None:
        return row
    torch_value, torch_gradient = double()
    apart = np.abs(gradient - torch_gradient).max() / np.abs(torch_gradient).max()
    return dataclasses.replace(
        row,
        torch_seconds=median_seconds(single, min(repetitions, 3)),
        torch_value=torch_value,
        apart=float(apart),
    )


def kinds(n: int, p: int) -> dict[str, tuple[Kernel, Float32[np.ndarray, "n _"]]]:
    """Kernels and priors by name.

    Features stand for those of a generative model: 4096 numbers, none below 0. They are
    scaled to a mean of ‖p_i - p_j‖² / (2 σ²) of 1 ("far") or 0.05 ("near").
    """
    random = np.random.default_rng(2)
    independent = np.abs(random.normal(size=(n, 4096)))
    latent = random.normal(size=(n, 16)) @ random.normal(size=(16, 4096)) / 4
    few = np.maximum(latent + 0.5, 0)
    bits = attributes(n, p)

    def features(x: np.ndarray, exponent: float) -> tuple[Kernel, np.ndarray]:
        scale = 100 * (exponent / x.var(axis=0).sum()) ** 0.5
        return Rbf(100.0), scale * x

    found = {
        "independent features, far": features(independent, 1.0),
        "independent features, near": features(independent, 0.05),
        "features of 16 factors, far": features(few, 1.0),
        "features of 16 factors, near": features(few, 0.05),
        "attributes": (Rbf(SIGMA), bits),
        "attributes, each four times": (Rbf(SIGMA), bits[np.arange(n) // 4]),
        "one-hot of 10": (Rbf(1.0), np.eye(10)[random.integers(0, 10, n)]),
        "16 numbers, Cosine": (Cosine(), np.abs(random.normal(size=(n, 16)))),
    }
    return {name: (k, x.astype(np.float32)) for name, (k, x) in found.items()}


def accuracy(
    name: str,
    kernel: Kernel,
    z: Float32[np.ndarray, "n v d"],
    priors: Float32[np.ndarray, "n _"],
) -> Accuracy:
    """Compares float32 with float64 on the same numbers."""

    @jax.jit
    def found(z: jax.Array, priors: jax.Array) -> tuple[jax.Array, ...]:
        c, matrix = centroids(z), kernel(priors)
        inverse = jnp.linalg.inv(matrix + RIDGE * jnp.eye(len(c), dtype=c.dtype))
        with jax.default_matmul_precision("highest"):
            inverted = inverse @ (matrix @ c)
        value, gradient = jax.value_and_grad(loss)(z, priors, kernel=kernel)
        smoothed = kernel_centroids(matrix, c, ridge=RIDGE)
        return matrix, smoothed, inverted, gradient, value

    narrow = [np.asarray(x, np.float64) for x in found(*jax.device_put((z, priors)))]
    with jax.enable_x64(True):
        doubles = (z.astype(np.float64), priors.astype(np.float64))
        matrix, *wide = (np.asarray(x) for x in found(*jax.device_put(doubles)))
    smoothed, _, gradient, value = wide
    n, eigenvalues = len(z), np.linalg.eigvalsh(matrix)

    def error(got: np.ndarray, expected: np.ndarray) -> float:
        return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))

    return Accuracy(
        name,
        mean=float((matrix.sum() - np.trace(matrix)) / (n * (n - 1))),
        condition=float((eigenvalues[-1] + RIDGE) / (eigenvalues[0] + RIDGE)),
        centroids=error(narrow[1], smoothed),
        loss=float(abs(narrow[4] - value)),
        gradient=error(narrow[3], gradient),
        inverse=error(narrow[2], smoothed),
    )


def measure(
    n: int, v: int, d: int, p: int, *, block: int, repetitions: int, torch: bool
) -> list[Timing]:
    """Times all forms of the loss."""
    z, priors = embeddings(n, v, d), attributes(n, p)
    matrix = np.asarray(Rbf(SIGMA)(jnp.asarray(priors)))
    return [
        timing(
            name,
            form,
            z,
            matrix if name == ALONE else priors,
            repetitions=repetitions,
            torch=torch,
        )
        for name, form in tqdm(forms(block).items(), unit="form", disable=None)
    ]


def measure_accuracy(n: int, v: int, d: int, p: int) -> list[Accuracy]:
    """Compares float32 with float64 on all kinds of priors."""
    z = embeddings(n, v, d)
    return [
        accuracy(name, kernel, z, priors)
        for name, (kernel, priors) in tqdm(
            kinds(n, p).items(), unit="kind", disable=None
        )
    ]


def table(timings: Sequence[Timing], accuracies: Sequence[Accuracy]) -> str:
    """The measurement for a person to read, as Markdown."""
    columns = (
        "loss and gradient",
        "ms",
        "temporaries, MiB",
        "PyTorch, ms",
        "value",
        "PyTorch's in float64",
        "gradients apart",
    )
    cells = [
        [
            row.name,
            milliseconds(row.seconds),
            f"{row.temporary_bytes / 2**20:.4g}",
            milliseconds(row.torch_seconds),
            f"{row.value:.6f}",
            "–" if row.torch_value is None else f"{row.torch_value:.6f}",
            "–" if row.apart is None else f"{row.apart:.0e}",
        ]
        for row in timings
    ]
    parts = [markdown(columns, cells)]
    if accuracies:
        columns = (
            "priors",
            "mean of K",
            "condition of K + λI",
            "centroids",
            "loss",
            "gradient",
            "centroids by an inverse",
        )
        cells = [
            [row.name, f"{row.mean:.2f}"]
            + [
                f"{x:.1e}"
                for x in (
                    row.condition,
                    row.centroids,
                    row.loss,
                    row.gradient,
                    row.inverse,
                )
            ]
            for row in accuracies
        ]
        parts.append(markdown(columns, cells))
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and reports; gives the exit status."""
    parser = make_parser("uniformity", __doc__, SIZES)
    add = parser.add_argument
    add("--torch", action="store_true", help="beside the formula in PyTorch")
    add("--numerics", action="store_true", help="float32 against float64")
    arguments = parse(parser, SIZES, argv)
    if arguments.torch and importlib.util.find_spec("torch") is None:
        parser.error('--torch needs PyTorch: pip install "jax_rcl[torch]".')
    settings = {name: getattr(arguments, name) for name in SIZES}
    shape = [settings[n] for n in ("examples", "views", "dimension", "priors")]
    timings = measure(
        *shape,
        block=arguments.block,
        repetitions=arguments.repetitions,
        torch=arguments.torch,
    )
    accuracies = measure_accuracy(*shape) if arguments.numerics else []
    rows = [dataclasses.asdict(row) for row in (*timings, *accuracies)]
    text = table(timings, accuracies)
    report("uniformity", settings, rows, text, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
