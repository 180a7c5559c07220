"""Published files: where they lie, downloading them, comparing their checksums."""

import dataclasses
import hashlib
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path

import tqdm


@dataclasses.dataclass(frozen=True)
class Archive:
    """A published file, identified by its sha256; its size is in bytes.

    Attributes:
      others: what may lie there instead of it, in words.
    """

    name: str
    url: str
    sha256: str
    size: int
    others: str = ""


def data_folder(folder: str | None = None, *archives: Archive) -> Path:
    """Where data files lie: `folder`, else $JAX_RCL_DATA, else ~/.cache/jax_rcl.

    For the path of one of the `archives`, the folder that it is in.

    Raises:
      ValueError: it is another file.
    """
    chosen = folder or os.environ.get("JAX_RCL_DATA") or "~/.cache/jax_rcl"
    path = Path(chosen).expanduser()
    if not path.is_file():
        return path
    names = [archive.name for archive in archives]
    if path.name not in names:
        kinds = f", and not {' or '.join(names)}" if names else ""
        raise ValueError(
            f"folder {path} is a file{kinds}; name the folder that holds the data."
        )
    return path.parent


def fetch(archive: Archive, folder: Path) -> Path:
    """The path of `archive` in `folder`, downloaded if it is not there, and verified.

    A download has a temporary name until its checksum is right, so that neither an
    interruption nor a second process leaves half a file behind.

    Raises:
      FileNotFoundError: the file is missing and cannot be downloaded.
      ValueError: what is there, or what came, has another checksum.
    """
    path = folder / archive.name
    if not path.exists():
        _download(archive, path)
    elif wrong := _difference(archive, path):
        raise ValueError(
            f"{path} is not the published {archive.name}: {wrong}. It is damaged or "
            f"incomplete: delete it, or replace it by {archive.url}."
        )
    return path


def _difference(archive: Archive, path: Path) -> str:
    """How the file differs from the archive, in words; empty if it does not."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == archive.sha256:
        return ""
    return (
        f"sha256 is {found}, expected {archive.sha256}; "
        f"it holds {path.stat().st_size} of {archive.size} bytes"
    )


def _download(archive: Archive, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(".partial", archive.name, path.parent) as made:
            partial = Path(made) / archive.name
            with (
                urllib.request.urlopen(archive.url, timeout=30) as reply,
                tqdm.tqdm.wrapattr(
                    reply, "read", archive.size, desc=archive.name
                ) as counted,
                partial.open("wb") as file,
            ):
                shutil.copyfileobj(counted, file, 1 << 20)
            if wrong := _difference(archive, partial):
                raise ValueError(
                    f"{archive.url} did not give the published {archive.name}: "
                    f"{wrong}. Get the file elsewhere and put it into {path.parent}."
                )
            partial.replace(path)
    except OSError as error:
        raise FileNotFoundError(
            f"{path} is missing, and {archive.url} could not be fetched ({error}). "
            f"Get {archive.name} ({archive.size} bytes, sha256 {archive.sha256}) from "
            f"there on a machine with a network and put it into {path.parent}, or name "
            f"the folder that holds it by `folder` or by $JAX_RCL_DATA."
            f"{archive.others and f' Instead of it {archive.others} may lie there.'}"
        ) from error
