"""Reading PyTorch's archives without PyTorch: nothing in them is executed.

An archive, as `torch.save` writes since version 1.6 and `torch.jit.save` did before, is
a zip file of one pickle, `data.pkl`, and one file of raw numbers for each storage. The
pickle may name only what makes arrays. Whatever else it names, such as classes of a
training framework, is read as an `Opaque`, which holds attributes and does nothing.
"""

import collections
import dataclasses
import pickle
import re
import zipfile
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

_TYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": np.uint16,  # numpy has none; see `Stored.read`
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class Opaque:
    """Stands for an object of a class that is not looked up.

    Attributes:
      state: what was stored of it, usually its attributes by name.
      declared: parameters and buffers of a TorchScript module; None for all.
    """

    declared: frozenset[str] | None = None

    def __new__(cls, *_: Any, **__: Any) -> "Opaque":
        made = object.__new__(cls)
        made.state = {}
        return made

    def __call__(self, *_: Any, **__: Any) -> "Opaque":
        """Instead of calling a function."""
        return Opaque()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, name: Any, value: Any) -> None:
        """As of a dict; its items are not needed, nor are those of a list."""

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array of an archive that is not read yet.

    Attributes:
      kind: name of the storage's class, which says the type.
      key: of the storage.
      offset: of the first number, in numbers.
      strides: between neighbours along each axis, in numbers.
    """

    archive: "Archive"
    kind: str
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> np.ndarray:
        """The array; bfloat16 becomes float32, which holds all of its values.

        Raises:
          ValueError: it would reach beyond its storage.
        """
        dtype = np.dtype(_TYPES[self.kind])
        strides = [dtype.itemsize * step for step in self.strides]
        found = dtype.newbyteorder(self.archive.byte_order)
        numbers = self.archive.storage(self.key)
        try:
            start = dtype.itemsize * self.offset
            stored = np.ndarray(self.shape, found, numbers, start, strides)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"an array {self.shape} reaches beyond its storage {self.key}"
            ) from error
        array = np.array(stored, dtype, order="C")
        if self.kind == "BFloat16Storage":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array


class Archive:
    """An open archive; its arrays are read one by one when they are asked for.

    Attributes:
      content: what was saved, with `Stored` for arrays and `Opaque` for other objects;
        of a TorchScript module its parameters and buffers by name.

    Raises:
      ValueError: it is not an archive of PyTorch.
    """

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file, names = file, file.namelist()
        found = [name for name in names if name.count("/") == 1]
        roots = [n.removesuffix("/data.pkl") for n in found if n.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError("there is no data.pkl in it")
        self._root = roots[0]
        is_big = self._text("byteorder") == "big"
        self.byte_order: Literal["<", ">"] = ">" if is_big else "<"
        with file.open(f"{self._root}/data.pkl") as pickled:
            self.content = _Reader(pickled, self).load()
        # `torch.jit.save` adds the code of the modules.
        if f"{self._root}/constants.pkl" in names:
            self.content = dict(_named(self.content, ""))

    def storage(self, key: str) -> bytes:
        """The bytes of one storage."""
        return self._file.read(f"{self._root}/data/{key}")

    def declared(self, module: str, name: str) -> frozenset[str] | None:
        """Parameters and buffers of a class of TorchScript, as its code lists them."""
        code = self._text(f"code/{module.replace('.', '/')}.py")
        found = re.search(
            rf"^class {re.escape(name)}\(Module\):\n((?:  .*\n?|\n)*)", code, re.M
        )
        if found is None or "__parameters__" not in found[1]:
            return None
        lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*)\]", found[1], re.M)
        return frozenset(re.findall(r'"([^"]*)"', " ".join(lists)))

    def _text(self, name: str) -> str:
        try:
            return self._file.read(f"{self._root}/{name}").decode().strip()
        except KeyError:
            return ""


class _Reader(pickle.Unpickler):
    """Reads a pickle without importing or calling anything that it names."""

    def __init__(self, file: Any, archive: Archive) -> None:
        super().__init__(file)
        self._archive = archive
        self._classes: dict[tuple[str, str], type[Opaque]] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        match module_name, global_name:
            case "collections", "OrderedDict":
                return collections.OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return self._tensor
            case "torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state":
                return lambda data, *_: data
        if module_name in ("torch", "torch.storage") and global_name in _TYPES:
            return global_name
        key = module_name, global_name
        if key not in self._classes:
            declared = None
            if module_name.split(".")[0] == "__torch__":
                declared = self._archive.declared(*key)
            self._classes[key] = type(global_name, (Opaque,), {"declared": declared})
        return self._classes[key]

    def persistent_load(self, pid: Any, /) -> Any:
        _, kind, key, *_ = pid
        return kind, key

    def _tensor(
        self,
        storage: tuple[Any, str],
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: Any,
    ) -> Any:
        kind, key = storage
        if kind not in _TYPES:
            return Opaque()  # of a type that numpy does not have, such as quantised
        return Stored(self._archive, kind, key, offset, shape, strides)


def _named(module: Any, before: str) -> Iterator[tuple[str, Stored]]:
    if not isinstance(module, Opaque) or not isinstance(module.state, dict):
        return
    for name, value in module.state.items():
        wanted = module.declared is None or name in module.declared
        if isinstance(value, Stored) and wanted:
            yield f"{before}{name}", value
        else:
            yield from _named(value, f"{before}{name}.")
