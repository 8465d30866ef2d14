"""IDX files and data sets of images, on files made here and on the real ones."""

import gzip
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.tasks.idx_files import idx, write_images
from wfm import downloads
from wfm.tasks import images, load_task
from wfm.tasks.idx import ENTRIES, read_idx
from wfm.tasks.images import FILES, FOLDER, SOURCES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiny data set of 4 by 3 pixels."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return write_images(tmp_path / "mnist", (4, 3), classes=5)


@pytest.mark.parametrize("code", ENTRIES)
@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 0), (2, 3, 4)])
def test_arrays_come_back_from_files(tmp_path, code, shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    for content in (idx(array, code), gzip.compress(idx(array, code))):
        (tmp_path / "file").write_bytes(content)
        np.testing.assert_array_equal(read_idx(tmp_path / "file"), array)


WHOLE = idx(np.arange(24).reshape(2, 3, 4))
ZIPPED = gzip.compress(WHOLE, mtime=0)  # the time would be part of the tests' names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>moved</html>", "is a web page"),
        (b"\n <html>", "is a web page"),
        (b"\x89PNG\r\n", "no IDX file"),
        (b"\0\0\x07" + WHOLE[3:], "no IDX file"),
        (b"", "no IDX file"),
        (WHOLE[:-1], "has 39 bytes .* promises 40"),
        (WHOLE + b"0", "has 41 bytes .* promises 40"),
        (WHOLE[:9], "it is damaged"),
        (ZIPPED[:-9], "cannot be unpacked"),
        (ZIPPED[:12] + b"??????" + ZIPPED[18:], "cannot be unpacked"),
    ],
)
def test_what_is_no_whole_idx_file_is_named(tmp_path, content, message):
    path = tmp_path / "digits.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"digits.gz .*{message}.*download it again"):
        read_idx(path)


def test_splits_are_disjoint_stratified_and_standardised(folder):
    task = load_task("mnist")
    assert [len(s) for s in (task.train, task.validation, task.test)] == [40, 20, 20]
    assert task.input_shape == (12,)
    assert task.n_classes == 5
    for split in (task.train, task.validation, task.test):
        assert len(set(np.bincount(split.y))) == 1
    assert float(task.train.x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(task.train.x.std()) == pytest.approx(1, abs=1e-5)
    pixels = read_idx(folder / FILES["train"][0]).reshape(60, 12)
    ours = np.concatenate([task.train.x, task.validation.x])
    scale = (pixels.max() - pixels.min()) / (ours.max() - ours.min())
    restored = np.rint((ours - ours.min()) * scale + pixels.min()).astype(int)
    np.testing.assert_array_equal(np.sort(restored, 0), np.sort(pixels, 0))
    assert (load_task("mnist", split=1).validation.x != task.validation.x).any()


def test_small_images_are_means_of_blocks(folder):
    image = np.random.default_rng(0).random((2, 28, 28))
    small = images.shrunk(image)
    assert small.shape == (2, 8, 8)
    np.testing.assert_allclose(small[1, 3, 4], image[1, 10:14, 14:18].mean())
    np.testing.assert_allclose(small[0, 0, 7] * 16, image[0, :2, -2:].sum())  # half of it margin
    np.testing.assert_allclose(small.sum() * 16, image.sum())

    whole, task = load_task("mnist"), load_task("mnist_8x8")
    assert task.input_shape == (64,)
    np.testing.assert_array_equal(task.test.y, whole.test.y)
    seen = task.train.x.std(0) > 0
    np.testing.assert_allclose(task.train.x[:, seen].std(0), 1, rtol=1e-5)
    assert int(seen.sum()) == 12  # pixels of an image of 4 by 3, each a block of its own
    assert float(jnp.abs(task.test.x[:, ~seen]).max()) == 0


def test_images_and_labels_must_be_as_many(folder):
    (folder / FILES["train"][1]).write_bytes(gzip.compress(idx(np.zeros(59))))
    with pytest.raises(ValueError, match=r"\(60, 4, 3\) and .*labels.* one \(59,\)"):
        load_task("mnist")


def test_without_a_network_the_message_says_what_to_do(folder, monkeypatch):
    (folder / FILES["test"][1]).with_suffix("").unlink()

    def offline(*_):
        raise ConnectionError("no route to host\nmore")

    monkeypatch.setattr(downloads.pooch, "retrieve", offline)
    with pytest.raises(FileNotFoundError, match=rf"labels.*no route to host\).*set {FOLDER}"):
        load_task("mnist")


def test_files_that_are_not_there_are_downloaded_with_a_checksum(folder, monkeypatch):
    expected, file = load_task("mnist"), FILES["test"][1]
    elsewhere = (folder / file).with_suffix("").rename(folder / "elsewhere")
    asked = []

    def download(*what):
        asked.append(what[:3])
        return str(elsewhere)

    monkeypatch.setattr(downloads.pooch, "retrieve", download)
    np.testing.assert_array_equal(load_task("mnist").test.y, expected.test.y)
    source = SOURCES["mnist"]
    assert asked == [(source.url + file, source.sha256[file], file)]


@pytest.mark.skipif(FOLDER not in os.environ, reason=f"{FOLDER} does not say where the files are")
@pytest.mark.parametrize("name", SOURCES)
def test_the_real_files(name):
    if not (Path(os.environ[FOLDER]) / name).exists():
        pytest.skip(f"no {name} there")
    task = load_task(name)
    assert [len(s) for s in (task.train, task.validation, task.test)] == [50_000, 10_000, 10_000]
    assert task.input_shape == (784,)
    assert task.n_classes == 10
    official = {"mnist": (0.1307, 0.3081), "fashion_mnist": (0.2860, 0.3530)}
    mean, std = official[name]
    black = float(task.train.x.min())  # pixels of value 0
    white = float(task.train.x.max())
    assert -black / (white - black) == pytest.approx(mean, abs=2e-3)
    assert 1 / (white - black) == pytest.approx(std, abs=2e-3)
