"""Makes textures of photographs: on the device in batches, or by a program."""

import functools
import hashlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jaxtyping import Array, UInt8, UInt32
from PIL import Image
from tqdm.contrib.concurrent import thread_map

from jax_rcl import parallel
from jax_rcl.augment.quilting import Quilting
from jax_rcl.cli.prepare.work import whole
from jax_rcl.data import host_ops

SHARE = 64
"""Textures that each device makes at a time, at most."""


class Job(NamedTuple):
    """A photograph, and the file of the texture to make of it."""

    image: Path
    target: Path

    def digest(self, seed: int) -> bytes:
        """32 random bytes that depend on the seed and the names of class and file."""
        name = f"{self.image.parent.name}/{self.image.name}"
        return hashlib.sha256(f"{seed}/{name}".encode()).digest()


class Settings(NamedTuple):
    """What all textures have in common, as the flags of the command say."""

    size: int
    patch: int
    seed: int
    workers: int


def squares_of(
    image: Image.Image, patch: int, digest: bytes
) -> UInt8[np.ndarray, "2 p p 3"]:
    """The square in the middle of a photograph, and one at a random place.

    They are cut at the photograph's own resolution; one that is smaller than the
    squares is enlarged first, until they just fit. Bytes 8 to 24 of `digest` decide
    where the random one is.
    """
    shorter = min(image.size)
    if shorter < patch:
        width, height = (max(patch, side * patch // shorter) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    # Deviation: the authors' upper bound is exclusive, so that the last place along a
    # side is never drawn.
    words = np.frombuffer(digest[8:24], "<u8")
    room = np.array(pixels.shape[:2]) - patch
    drawn = [
        int(word) * (int(r) + 1) >> 64 for word, r in zip(words, room, strict=True)
    ]
    middle = [side // 2 - patch // 2 for side in pixels.shape[:2]]
    return np.stack([pixels[y : y + patch, x : x + patch] for y, x in (middle, drawn)])


def squares_or_reason(
    job: Job, settings: Settings
) -> UInt8[np.ndarray, "2 p p 3"] | str:
    """The squares of a job's photograph, or why it cannot be read."""
    try:
        image = host_ops.decode(job.image)
    except ValueError as error:
        return str(error)
    return squares_of(image, settings.patch, job.digest(settings.seed))


def save(texture: UInt8[np.ndarray, "s s 3"], target: Path) -> None:
    """Writes a PNG file, all of it or none."""
    with whole(target) as partial:
        Image.fromarray(texture).save(partial, "png")


# On the device.


def by_quilting(
    quilting: Quilting, settings: Settings, jobs: Sequence[Job]
) -> list[str]:
    """Makes textures in batches; the next is read while the device works on one."""
    mesh = parallel.make_mesh()
    count = min(SHARE, -(-len(jobs) // mesh.size)) * mesh.size
    chunks = [jobs[first : first + count] for first in range(0, len(jobs), count)]
    one = functools.partial(quilt, quilting)
    quilt_all = jax.jit(parallel.over_shares(jax.vmap(one), mesh, whole=0))
    read = functools.partial(squares_or_reason, settings=settings)
    failures: list[str] = []
    bar = tqdm.tqdm(total=len(jobs), desc="quilting", unit="texture", delay=1)
    with bar, ThreadPoolExecutor(settings.workers) as pool:
        coming = pool.map(read, chunks[0])
        for chunk, after in zip(chunks, [*chunks[1:], ()], strict=True):
            found = dict(zip(chunk, coming, strict=True))
            failures += [text for text in found.values() if isinstance(text, str)]
            good = {j: s for j, s in found.items() if not isinstance(s, str)}
            textures = quilt_all(parallel.put(batch_of(good, settings, count), mesh))
            coming = pool.map(read, after)
            rows = parallel.fetch(textures)[: len(good)]
            list(pool.map(save, rows, [job.target for job in good]))
            bar.update(len(chunk))
    return failures


def batch_of(
    squares: Mapping[Job, UInt8[np.ndarray, "2 p p 3"]], settings: Settings, count: int
) -> tuple[UInt32[np.ndarray, "n 2"], UInt8[np.ndarray, "n 2 p p 3"]]:
    """Random keys and squares of jobs, padded with zeros to `count` rows."""
    keys = np.zeros((count, 2), np.uint32)
    batch = np.zeros((count, 2, settings.patch, settings.patch, 3), np.uint8)
    for row, (job, pair) in enumerate(squares.items()):
        keys[row] = np.frombuffer(job.digest(settings.seed)[:8], "<u4")
        batch[row] = pair
    return keys, batch


def quilt(
    quilting: Quilting, example: tuple[UInt32[Array, "2"], UInt8[Array, "2 p p 3"]]
) -> UInt8[Array, "s s 3"]:
    """One texture: pixels of the two squares, where quilting places them.

    Blocks are compared in whole numbers, so that a texture does not depend on the batch
    that its photograph is in.
    """
    words, squares = example
    key = jax.random.wrap_key_data(words, impl="threefry2x32")
    return squares.reshape(-1, 3)[quilting.quilt(key, squares.astype(jnp.int32))]


# By a program.


def by_program(program: str, settings: Settings, jobs: Sequence[Job]) -> list[str]:
    """Makes textures with texture-synthesis, called as the authors call it."""
    one = functools.partial(synthesise, program, settings)
    options = {"desc": Path(program).name, "unit": "texture", "delay": 1}
    return thread_map(one, jobs, max_workers=settings.workers, **options)


def synthesise(program: str, settings: Settings, job: Job) -> str:
    """Makes one texture; gives the reason where that fails, or nothing."""
    squares = squares_or_reason(job, settings)
    if isinstance(squares, str):
        return squares
    with tempfile.TemporaryDirectory(prefix="jax_rcl_texture_") as folder:
        first, second, target = (Path(folder, f"{name}.png") for name in "abt")
        save(squares[0], first)
        save(squares[1], second)
        size = str(settings.size)
        call = [program, "--out-size", size, "--out", str(target)]
        call += ["generate", str(first), str(second)]
        done = subprocess.run(
            call, stdin=subprocess.DEVNULL, capture_output=True, errors="replace"
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            return f"{job.image}: {program} ended with {done.returncode}: {lines[-1]}"
        try:
            texture = np.asarray(host_ops.decode(target))
        except ValueError:
            return f"{job.image}: {program} ended well, but wrote no image"
    if texture.shape != (settings.size, settings.size, 3):
        return f"{job.image}: {program} made a texture of {texture.shape[:2]} pixels"
    save(texture, job.target)
    return ""
