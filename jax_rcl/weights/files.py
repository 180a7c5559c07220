"""Reading files of named arrays, as other libraries write them."""

import contextlib
import importlib
import pathlib
import pickle
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from jax_rcl.weights.torch_archive import Archive, Stored

TORCH_SUFFIXES = (".pt", ".pth", ".pth.tar", ".ckpt", ".bin")

_ZIP = b"PK\x03\x04"


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Arrays by name from `.npz`, `.safetensors`, `.pt`, `.pth`, `.ckpt` and the like.

    The ending of the path says which. A PyTorch file holds a state dict, a checkpoint
    with one under `state_dict`, as Lightning's `.ckpt` does, `model` or another key, or
    a TorchScript module. Of a checkpoint with several of equal rank, such as `student`
    and `teacher`, all are read, and names begin with the key and a dot. Nothing in any
    file is executed. Only PyTorch files from before version 1.6, which are not
    archives, need the extra `torch`. `numpy.savez(path, **arrays)` and
    `safetensors.numpy.save_file(arrays, path)` write what this reads. Types are those
    of the file, but bfloat16 becomes float32.

    Raises:
      ValueError: for another ending, a file that is damaged or was cut off, or a
        PyTorch file without a state dict.
      ImportError: without the extra `torch` where the format needs it.
    """
    path = pathlib.Path(path)
    if path.name.endswith(".npz"):
        with path.open("rb") as file:  # numpy would leave it open after an error
            with _whole(path, ValueError):
                opened = np.load(file)
            with opened as arrays, _whole(path):
                return dict(arrays)
    if path.name.endswith(".safetensors"):
        return _read_safetensors(path)
    if path.name.endswith(TORCH_SUFFIXES):
        return _read_torch(path)
    raise ValueError(
        f"{path} is in no known format; the endings are .npz, .safetensors, "
        f"{', '.join(TORCH_SUFFIXES)}."
    )


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    with _whole(path, SafetensorError):
        arrays = load_file(path)
    # NumPy knows bfloat16 only through `ml_dtypes`, which JAX brings along.
    return {
        name: x.astype(np.float32) if x.dtype == ml_dtypes.bfloat16 else x
        for name, x in arrays.items()
    }


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
    if start != _ZIP:
        return _read_old_torch(path)
    with _whole(path, ValueError), zipfile.ZipFile(path) as file:
        state = _state_dict(Archive(file).content, Stored, path)
        return {name: array.read() for name, array in state.items()}


def _read_old_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError(
            f"reading {path}, which PyTorch wrote before version 1.6, needs torch: "
            f"pip install 'jax_rcl[torch]', or save it again as .npz elsewhere."
        ) from error
    with _whole(path, RuntimeError):
        content = torch.load(path, map_location="cpu", weights_only=True)
    state = _state_dict(content, torch.Tensor, path)
    # numpy has no bfloat16, and float32 holds all of its values.
    return {
        name: (x.float() if x.dtype == torch.bfloat16 else x).detach().numpy()
        for name, x in state.items()
    }


class _NoStateDict(ValueError):
    """The file is whole, but holds something else."""


# Of several state dicts in a checkpoint the first of these is meant.
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network")


def _state_dict(content: Any, array: type, path: pathlib.Path) -> Mapping[str, Any]:
    """The arrays by name in a file's content."""
    if isinstance(content, Mapping):
        content = _found(content, array) or content
    if not isinstance(content, Mapping):
        raise _NoStateDict(
            f"{path} holds a {type(content).__name__}, not a dict of arrays; save "
            f"`model.state_dict()`."
        )
    others = [name for name, x in content.items() if not isinstance(x, array)]
    if others:
        raise _NoStateDict(
            f"{path} holds values that are not arrays: {', '.join(map(str, others))}; "
            f"save the state dict alone, or under `state_dict`."
        )
    return content


def _found(content: Mapping[Any, Any], array: type) -> Mapping[str, Any]:
    """The state dict in a checkpoint, however deep; empty if there is none."""
    inside = {
        key: found
        for key, value in content.items()
        # An optimizer's averages are arrays, too.
        if isinstance(value, Mapping) and "param_groups" not in value
        if (found := _found(value, array))
    }
    for key in _KEYS:
        if key in inside:
            return inside[key]
    if any(isinstance(value, array) for value in content.values()):
        return content
    if len(inside) == 1:
        return next(iter(inside.values()))
    return {f"{key}.{name}": x for key, d in inside.items() for name, x in d.items()}


@contextlib.contextmanager
def _whole(path: pathlib.Path, *errors: type[Exception]) -> Iterator[None]:
    """Turns all that reading a damaged file raises into one error."""
    broken = (
        *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, EOFError),
        *(KeyError, IndexError, TypeError, AttributeError, OverflowError),
        *errors,
    )
    try:
        yield
    except _NoStateDict:
        raise
    except broken as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} is damaged, was cut off or is not what its name says ({reason}); "
            f"download or copy it again, and compare sizes."
        ) from error
