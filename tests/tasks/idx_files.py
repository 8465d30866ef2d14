"""Tiny files in the format of MNIST."""

import gzip
import struct
from pathlib import Path

import numpy as np

from wfm.tasks.idx import ENTRIES
from wfm.tasks.images import FILES

SIZES = {"train": 60, "test": 20}


def idx(array, code=0x08):
    """The content of an IDX file."""
    header = struct.pack(">BBBB", 0, 0, code, array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(ENTRIES[code]).tobytes()


def write_images(folder: Path, shape: tuple[int, int], classes: int) -> Path:
    """A data set of random images, whose files are plain in the test part and else compressed."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, n in SIZES.items():
        contents = rng.integers(0, 256, (n, *shape)), np.arange(n) % classes
        for file, content in zip(FILES[part], contents, strict=True):
            if part == "train":
                (folder / file).write_bytes(gzip.compress(idx(content)))
            else:
                (folder / file).with_suffix("").write_bytes(idx(content))
    return folder
