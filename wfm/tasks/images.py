"""MNIST and Fashion-MNIST, from local files or from the official ones."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from wfm.checks import some
from wfm.downloads import download
from wfm.errors import UserError
from wfm.tasks.idx import read_idx
from wfm.tasks.split import divide
from wfm.tasks.task import Split, Task

FOLDER = "WFM_DATA_DIR"
SIDE = 8  # pixels, of small images

Images = tuple[np.ndarray, np.ndarray]  # (n, height, width) of floats, and labels


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the files of a data set are, and the SHA-256 of each."""

    url: str
    sha256: Mapping[str, str]


# Images and labels of each official part.
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def _source(url: str, *sha256: str) -> Source:
    """The source of files in the order of `FILES`."""
    files = (file for part in FILES.values() for file in part)
    return Source(url, dict(zip(files, sha256, strict=True)))


SOURCES = {
    "mnist": _source(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion_mnist": _source(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}


def load_images(name: str, split: int) -> Task:
    """Flat images, standardised by one mean and one variance of all training pixels.

    The official test images are the test split. From the others, as many are set aside for
    validation, stratified; `split` numbers the ways to do so. Files come from
    `$WFM_DATA_DIR/<name>/`, plain or compressed; missing files are downloaded once, into the user's
    cache.
    """
    return _task(*_parts(name), split, axis=None)


def load_small_images(name: str, split: int) -> Task:
    """The same at 8 by 8 pixels, each pixel standardised, for networks for `digits`."""
    seen, test = ((shrunk(x), y) for x, y in _parts(name))
    return _task(seen, test, split, axis=0)


def shrunk(images: np.ndarray) -> np.ndarray:
    """Images as `SIDE` by `SIDE` means of blocks, with a margin added so that blocks fit."""
    missing = [-side % SIDE for side in images.shape[1:]]
    padded = np.pad(images, [(0, 0), *((m // 2, m - m // 2) for m in missing)])
    n, height, width = padded.shape
    return padded.reshape(n, SIDE, height // SIDE, SIDE, width // SIDE).mean((2, 4))


def _task(seen: Images, test: Images, split: int, axis: int | None) -> Task:
    """Splits of images as rows, standardised by moments of the training split along `axis`."""
    (x, y), (test_x, test_y) = ((x.reshape(len(x), -1), y) for x, y in (seen, test))
    train, validation = divide(np.arange(len(y)), y, len(test_y) / len(y), split)
    mean, std = x[train].mean(axis), x[train].std(axis)
    std = np.where(std > 0, std, std.dtype.type(1))  # pixels that are always blank

    def as_split(x: np.ndarray, y: np.ndarray) -> Split:
        return Split(jnp.asarray((x - mean) / std, jnp.float32), jnp.asarray(y, jnp.int32))

    return Task(
        as_split(x[train], y[train]),
        as_split(x[validation], y[validation]),
        as_split(test_x, test_y),
        int(y.max()) + 1,
    )


def _parts(name: str) -> tuple[Images, Images]:
    """The official training and test images, which must match each other."""
    files = {part: [_file(name, file) for file in FILES[part]] for part in FILES}
    seen, test = (_images(*files[part]) for part in ("train", "test"))
    (x, y), (test_x, test_y) = seen, test
    if x.shape[1:] != test_x.shape[1:]:
        raise UserError(
            f"{files['test'][0]} has images of {test_x.shape[1:]} pixels and {files['train'][0]} "
            f"of {x.shape[1:]}; take both from one data set"
        )
    # Not more than can matter, whatever a damaged file says.
    absent = sorted(set(range(min(int(max(y.max(), test_y.max())), len(y)) + 1)) - set(y.tolist()))
    if absent:
        raise UserError(
            f"{files['train'][1]} and {files['test'][1]} have labels up to "
            f"{max(y.max(), test_y.max())}, but the first has none of class {some(absent)}; "
            "number the classes from 0 without gaps, or download both again"
        )
    return seen, test


def _images(images_file: Path, labels_file: Path) -> Images:
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise UserError(
            f"{images_file} holds an array {images.shape} and {labels_file} one {labels.shape}, "
            "which are not images and a label for each; download both again"
        )
    if not images.size:
        raise UserError(f"{images_file} has no pixels (shape {images.shape}); download it again")
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise UserError(f"{images_file} has NaN or infinite pixels; download it again")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise UserError(
            f"{labels_file} has labels of {labels.dtype} from {labels.min()} on, which do not "
            "number classes from 0; download it again"
        )
    return images, labels


def _file(name: str, file: str) -> Path:
    """Path of a file, downloaded if necessary."""
    folder = Path(os.environ.get(FOLDER, "")) / name
    if FOLDER in os.environ:
        for found in (folder / file, folder / file.removesuffix(".gz")):
            if found.exists():
                return found
    source = SOURCES[name]
    remedy = f"get it elsewhere, and set {FOLDER} to the folder that {name}/{file} lies in"
    return download(source.url + file, source.sha256[file], f"{name}/{file}", remedy)
