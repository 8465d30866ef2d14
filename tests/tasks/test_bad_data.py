"""Data that cannot be right: each is refused in one sentence, where it comes in."""

import gzip
import math
import re

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tasks.idx_files import idx, write_images
from wfm.tasks import BatchLoss, Split, Task, check_data, load_task
from wfm.tasks.images import FILES, FOLDER
from wfm.tasks.split import divide
from wfm.weights import mlp

X, Y = np.ones((6, 4), np.float32), np.array([0, 1, 2, 0, 1, 2])
GOOD = Split(X, Y)
SPEC = mlp(4, 3)


def changed(array, entry, value):
    array = array.copy()
    array[entry] = value
    return array


BAD_SPLITS = {
    "unequal lengths": (X, Y[:5], "inputs of shape (6, 4) and 5 labels are not as many"),
    "negative": (X, changed(Y, 1, -1), "labels must not be negative, got -1 (rows 1); number"),
    "NaN": (changed(X, (1, 3), np.nan), Y, "inputs are NaN or infinite in 1 rows (1); leave"),
    "infinite": (changed(X, [2, 4], np.inf), Y, "inputs are NaN or infinite in 2 rows (2, 4)"),
    "empty": (X[:0], Y[:0], "a split needs at least one example, got none"),
    "labels as floats": (X, Y + 0.5, "labels must be one row of whole numbers, got float"),
    "one-hot": (X, np.eye(3, dtype=int)[Y], "labels must be one row of whole numbers"),
    "inputs of text": (X.astype(int), Y, "inputs must be floating-point numbers, got int"),
}


@pytest.mark.parametrize("name", BAD_SPLITS)
def test_splits(name, as_in_use):
    x, y, message = BAD_SPLITS[name]
    for given in ((x, y), (jnp.asarray(x), jnp.asarray(y))):
        with pytest.raises(ValueError, match=re.escape(message)):
            Split(*given)


BAD_TASKS = {
    "label 7": (
        (GOOD, Split(X, changed(Y, 0, 7)), GOOD, 3),
        "validation split has a label 7 where",
    ),
    "another shape": ((GOOD, GOOD, Split(X[:, :2], Y), 3), "the test split have shape (2,) and"),
    "one class": ((GOOD, GOOD, GOOD, 1), "the number of classes must be at least 2, got 1"),
    "half a class": ((GOOD, GOOD, GOOD, 2.5), "must be a whole number, got 2.5"),
}


@pytest.mark.parametrize("name", BAD_TASKS)
def test_tasks(name, as_in_use):
    fields, message = BAD_TASKS[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        Task(*fields)


BAD_BATCHES = {
    "none": ({"batch_size": 0}, "the batch size must be at least 1, got 0"),
    "half of one": ({"batch_size": 1.5}, "the batch size must be a whole number, got 1.5"),
    "infinite noise": ({"input_noise": math.inf}, "finite and not negative, got inf"),
    "NaN noise": ({"input_noise": math.nan}, "finite and not negative, got nan"),
    "label 7": ({"split": Split(X, changed(Y, 0, 7))}, "a class 7 and the network 3 outputs"),
    "other inputs": ({"split": Split(X[:, :2], Y)}, "the data have 2 inputs and the network 4"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_batches(name, as_in_use):
    change, message = BAD_BATCHES[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        BatchLoss(SPEC, **({"split": GOOD} | change))


def test_splits_stay_pytrees_and_can_be_made_where_numbers_are_unknown():
    task = Task(GOOD, GOOD, GOOD, 3)
    none = jax.tree.map(lambda a: None, task)
    assert jax.tree.leaves(none) == []
    assert jax.tree.map(jnp.negative, task).train.y[1] == -1  # not made, but mapped
    chex.assert_trees_all_equal(eqx.combine(*eqx.partition(task, eqx.is_array)), task)
    shapes = jax.eval_shape(lambda: task)
    assert shapes.train.x.shape == (6, 4)

    @jax.jit
    @jax.vmap
    def loss(x):  # made, looked at, and used inside of both
        split = Split(x, jnp.asarray(Y))
        check_data(SPEC, split)
        return Task(split, split, split, 3).test.x.sum()

    np.testing.assert_allclose(loss(jnp.stack([X, jnp.nan * X])), [24, np.nan])


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (-1, "split must be at least 0, got -1"),
        (99999999999, "split must be at most 4294967295, got 99999999999"),
        (0.5, "split must be a whole number, got 0.5"),
    ],
)
def test_numbers_of_splits(split, message, as_in_use):
    with pytest.raises(ValueError, match=message):
        load_task("iris", split)


def test_classes_too_small_to_divide():
    y = np.array([0, 0, 0, 1])
    with pytest.raises(ValueError, match=r"4 examples cannot be divided .*; give more examples"):
        divide(np.arange(4), y, 0.5, 0)


def in_file(part, kind, content):
    def damage(folder):
        path = folder / FILES[part][kind]
        if part == "train":
            path.write_bytes(gzip.compress(content))
        else:
            path.with_suffix("").write_bytes(content)

    return damage


def folder_instead(folder):
    path = folder / FILES["train"][0]
    path.unlink()
    path.mkdir()


LABELS = np.arange(60) % 5
PIXELS = np.ones((60, 4, 3))
BAD_FILES = {
    "label 255": (
        in_file("train", 1, idx(changed(LABELS, 3, 255))),
        r"train-labels.* have labels up to 255, but the first has none of class 5, 6, .*…",
    ),
    "test label 9": (
        in_file("test", 1, idx(changed(LABELS[:20], 3, 9))),
        r"t10k-labels.* have labels up to 9, but the first has none of class 5, 6, 7, 8, 9;",
    ),
    "a label as large as they get": (
        in_file("train", 1, idx(changed(LABELS, 3, 2**31 - 1), 0x0C)),
        r"train-labels.* have labels up to 2147483647, but the first has none of class 5, 6, .*…",
    ),
    "negative": (
        in_file("train", 1, idx(changed(LABELS, 3, -1), 0x09)),
        r"train-labels.* has labels of int8 from -1 on",
    ),
    "labels of floats": (
        in_file("train", 1, idx(LABELS, 0x0D)),
        r"train-labels.* has labels of >f4 from 0.0 on",
    ),
    "NaN pixels": (
        in_file("train", 0, idx(changed(PIXELS, (5, 1, 1), np.nan), 0x0D)),
        r"train-images.* has NaN or infinite pixels",
    ),
    "pixels too large": (
        in_file("train", 0, idx(changed(PIXELS, (5, 1, 1), 1e300), 0x0E)),
        r"train-images.* has NaN or infinite pixels",
    ),
    "test images of another size": (
        in_file("test", 0, idx(np.ones((20, 3, 4)))),
        r"t10k-images.* has images of \(3, 4\) pixels and .*train-images.* of \(4, 3\)",
    ),
    "no images": (
        lambda folder: [
            in_file("test", k, idx(np.ones((0, *s))))(folder) for k, s in ((0, (4, 3)), (1, ()))
        ],
        r"t10k-images.* has no pixels \(shape \(0, 4, 3\)\)",
    ),
    "a folder": (folder_instead, r"train-images.* cannot be read \(Is a directory\)"),
    "one of a class": (
        in_file("train", 1, idx(changed(LABELS, 3, 5))),
        r"60 examples cannot be divided with 33% .*give more examples of each class",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_of_images(name, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    damage, message = BAD_FILES[name]
    damage(write_images(tmp_path / "mnist", (4, 3), classes=5))
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message) as error:
        load_task("mnist")
    assert "\n" not in str(error.value)
