"""OpenAI's published files of CLIP, told from damaged and from other ones."""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Literal

import numpy as np

from jax_rcl.weights import files

Checksum = Literal["known", "any"]
"""`known`: files of published names must have their digests; `any`: none need."""

# Each digest is part of the file's address, as https://github.com/openai/CLIP lists
# them in clip/clip.py.
SHA256: Mapping[str, str] = {
    "RN50.pt": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    "RN101.pt": "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    "RN50x4.pt": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    "RN50x16.pt": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    "RN50x64.pt": "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
    "ViT-B-32.pt": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B-16.pt": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L-14.pt": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "ViT-L-14-336px.pt": (
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
    ),
}
"""SHA-256 of the published archives, by file name."""


def read(
    path: str | pathlib.Path, checksum: Checksum = "known"
) -> dict[str, np.ndarray]:
    """Arrays of a file of CLIP's weights by name, as `files.read` gives them.

    Args:
      path: of the file.
      checksum: what must have a known digest.

    Raises:
      ValueError: a file of a published name has another digest, or `files.read` cannot
        read it.
    """
    if checksum == "known":
        verify(pathlib.Path(path))
    return files.read(path)


def verify(path: pathlib.Path) -> None:
    """Raises ValueError if a file of a published name is not the published one."""
    published = SHA256.get(path.name)
    if published is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != published:
        raise ValueError(
            f"checksum of {path} is {found}, published {published}; the download is "
            f"truncated or another file. Download it again, or write checksum='any' "
            f"for one of your own."
        )
