"""Reading files of named arrays, as other libraries write them."""

import importlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

TORCH_SUFFIXES = (".pt", ".pth", ".pth.tar")


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Arrays by name from `.npz`, `.safetensors`, `.pt`, `.pth` or `.pth.tar`.

    A PyTorch file holds a state dict, or a training checkpoint with one under
    `state_dict`; nothing in any file is executed. `numpy.savez(path, **arrays)` and
    `safetensors.numpy.save_file(arrays, path)` write what this reads.

    Args:
      path: of the file; its ending says what it is.

    Returns:
      Arrays of the file's types; bfloat16 of PyTorch becomes float32.

    Raises:
      ValueError: for another ending, or a PyTorch file without a state dict.
      ImportError: without the extra `torch` where the format needs it.
    """
    path = pathlib.Path(path)
    if path.name.endswith(".npz"):
        with np.load(path) as arrays:
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
    return _library("safetensors.numpy", path).load_file(path)


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    torch = _library("torch", path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, not a dict of arrays; save "
            f"`model.state_dict()`."
        )
    others = [name for name, x in content.items() if not isinstance(x, torch.Tensor)]
    if others:
        raise ValueError(
            f"{path} holds values that are not arrays: {', '.join(map(str, others))}; "
            f"save the state dict alone, or under `state_dict`."
        )
    # numpy has no bfloat16, and float32 holds all of its values.
    return {
        name: (x.float() if x.dtype == torch.bfloat16 else x).numpy()
        for name, x in content.items()
    }


def _library(name: str, path: pathlib.Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs {name}: pip install 'jax_rcl[torch]', or convert "
            f"the file to .npz where it is installed."
        ) from error
