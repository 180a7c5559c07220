"""Published files that sources can download: addresses, sizes, checksums."""

import dataclasses

from jax_rcl.data.archives import Archive

CIFAR = {
    10: Archive(
        "cifar-10-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170_052_171,
        others="cifar-10-python.tar.gz, cifar-10-batches-bin/ or cifar-10-batches-py/",
    ),
    100: Archive(
        "cifar-100-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        168_513_733,
        others="cifar-100-python.tar.gz, cifar-100-binary/ or cifar-100-python/",
    ),
}
"""The binary versions of CIFAR, by number of classes."""

CIFAR_PYTHON = {
    10: Archive(
        "cifar-10-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        170_498_071,
    ),
    100: Archive(
        "cifar-100-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        169_001_437,
    ),
}
"""The versions for Python, as torchvision and Keras download them."""

CIFAR_UNPACKED = {
    10: ("cifar-10-batches-bin", "cifar-10-batches-py"),
    100: ("cifar-100-binary", "cifar-100-python"),
}
"""The folders in these archives."""

STL10 = Archive(
    "stl10_binary.tar.gz",
    "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
    2_640_397_119,
    others="stl10_binary/",
)
"""The binary version of STL-10."""


@dataclasses.dataclass(frozen=True)
class IdxFiles:
    """A data set published as four idx.gz files, under the names that MNIST's have."""

    class_names: tuple[str, ...]
    archives: tuple[Archive, ...]


_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _idx_files(class_names: str, url: str, *digests: tuple[str, int]) -> IdxFiles:
    """The archives of a set, of which sha256 and size are given in that order."""
    archives = tuple(
        Archive(file, f"{url}/{file}", digest, size)
        for file, (digest, size) in zip(_IDX_FILES, digests, strict=True)
    )
    return IdxFiles(tuple(class_names.split(", ")), archives)


IDX = {
    "mnist": _idx_files(
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422),
        ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881),
        ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877),
        ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542),
    ),
    "fashion-mnist": _idx_files(
        "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, "
        "Ankle boot",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148),
    ),
}
"""Sets that `Idx` can download, by name."""

EMOJI = {
    vendor: Archive(
        f"emoji-datasource-{vendor}-16.0.0.tgz",
        f"https://registry.npmjs.org/emoji-datasource-{vendor}/-/"
        f"emoji-datasource-{vendor}-16.0.0.tgz",
        sha256,
        size,
    )
    for vendor, sha256, size in (
        (
            "google",
            "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
            74_344_091,
        ),
        (
            "twitter",
            "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
            61_683_754,
        ),
    )
}
"""npm packages of drawings, by vendor."""
