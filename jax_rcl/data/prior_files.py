"""Files of priors: reading them without loading what is large, and their arrays."""

import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped

CHUNK = 4096
"""Rows of a prior that are checked at a time, as all of them may take gigabytes."""


def read_arrays(
    path: Path, keys: Sequence[str]
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Those of the arrays of an .npz file that are there; an .npy file's as the first.

    What is not compressed is mapped and not read.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no prior file {path}; make one by jax-rcl prepare features, or "
            f"correct the path."
        )
    try:
        if not zipfile.is_zipfile(path):
            return {keys[0]: _mapped(path, 0)}
        with zipfile.ZipFile(path) as archive:
            there = {info.filename: info for info in archive.infolist()}
            return {
                key: _member(path, archive, there[f"{key}.npy"])
                for key in keys
                if f"{key}.npy" in there
            }
    # numpy and zipfile raise ValueError, OSError, EOFError, BadZipFile and others.
    except Exception as error:
        raise ValueError(
            f"{path} does not read as .npz or .npy of numbers and texts "
            f"({type(error).__name__}: {error}). Write it again, by numpy.savez, names "
            f"as numpy.array(names, dtype=str)."
        ) from error


def matrix(
    rows: Shaped[np.ndarray, "..."], key: str, path: Path
) -> Float32[np.ndarray, "m p"]:
    """An array of a file as float32 [m, p]; [m, 1, p] counts, too. Copies if needed."""
    if rows.ndim == 3 and rows.shape[1] == 1:
        rows = rows[:, 0]
    if rows.ndim != 2 or not rows.shape[1] or rows.dtype.kind not in "biuf":
        raise ValueError(
            f"'{key}' of {path} is {rows.dtype} {list(rows.shape)}; it must be numbers "
            f"[m, p], one row for each record"
            f"{', such as rows[:, None] of these' if rows.ndim == 1 else ''}."
        )
    with np.errstate(over="ignore"):  # what is too large becomes inf and is named
        return rows.astype(np.float32, copy=False)


def texts(names: Shaped[np.ndarray, "..."], path: Path) -> tuple[str, ...]:
    """The array `names` of a file, texts or bytes [m]."""
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise ValueError(
            f"'names' of {path} is {names.dtype} {list(names.shape)}; it must be texts "
            f"[m], numpy.array(names, dtype=str)."
        )
    try:
        decoded = names if names.dtype.kind == "U" else np.char.decode(names, "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"'names' of {path} are bytes that are not UTF-8 ({error}); save them as "
            f"texts, numpy.array(names, dtype=str)."
        ) from error
    return tuple(decoded.tolist())


def check_finite(
    rows: Float32[np.ndarray, "m p"], names: tuple[str, ...], path: Path
) -> None:
    """Raises ValueError if a prior has NaN or inf, with the first row that does."""
    finite = np.ones(len(rows), bool)
    for part in chunks(len(rows)):
        finite[part] = np.isfinite(rows[part]).all(axis=1)
    broken = np.flatnonzero(~finite)
    if len(broken):
        first = int(broken[0])
        name = f" ({names[first]})" if len(names) == len(rows) else ""
        raise ValueError(
            f"{len(broken)} of {len(rows)} rows of prior in {path} have NaN or inf, "
            f"first row {first}{name}. Compute these again, or leave their records out "
            f"of the source."
        )


def _member(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> Shaped[np.ndarray, "..."]:
    """One array of an .npz file, mapped if it is stored as it is."""
    if info.compress_type != zipfile.ZIP_STORED:
        with archive.open(info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    with path.open("rb") as file:
        # Each file in an archive has a header of 30 bytes, its name and extra fields.
        file.seek(info.header_offset + 26)
        lengths = struct.unpack("<HH", file.read(4))
    return _mapped(path, info.header_offset + 30 + sum(lengths))


def _mapped(path: Path, start: int) -> Shaped[np.ndarray, "..."]:
    """The array that begins, in the format of .npy, at a place in a file."""
    with path.open("rb") as file:
        file.seek(start)
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        if not np.prod(shape):
            return np.empty(shape, dtype)
        order = "F" if fortran else "C"
        return np.memmap(path, dtype, "r", file.tell(), shape, order)


def chunks(count: int) -> Iterator[slice]:
    """Slices that cover `count` rows, CHUNK at a time."""
    for first in range(0, count, CHUNK):
        yield slice(first, first + CHUNK)
