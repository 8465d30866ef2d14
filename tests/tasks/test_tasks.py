"""Data sets against scikit-learn's own numbers."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from wfm.tasks import accuracy, cross_entropy, load_task
from wfm.tasks.tabular import TABLES


@pytest.mark.parametrize("name", TABLES)
def test_splits_are_disjoint_complete_stratified_and_standardised(name):
    task = load_task(name)
    x, y = TABLES[name](return_X_y=True)
    splits = [task.train, task.validation, task.test]
    assert sum(map(len, splits)) == len(y)
    classes = np.concatenate([np.asarray(s.y) for s in splits])
    assert (np.bincount(classes) == np.bincount(y)).all()
    for split in splits:
        shares = np.bincount(split.y, minlength=task.n_classes) / len(split)
        np.testing.assert_allclose(shares, np.bincount(y) / len(y), atol=0.04)
    mean, std = task.train.x.mean(0), task.train.x.std(0)
    np.testing.assert_allclose(mean, 0, atol=1e-5)
    assert jnp.all((jnp.abs(std - 1) < 1e-4) | (std == 0))
    # Together the splits hold the rows of the data set, each once: compare one sum for each row.
    rows = np.concatenate([np.asarray(s.x) for s in splits]).astype(np.float64)
    varying = np.asarray(std) > 0
    sums = [((m - m.mean(0)) / m.std(0)).sum(1) for m in (rows[:, varying], x[:, varying])]
    np.testing.assert_allclose(np.sort(sums[0]), np.sort(sums[1]), atol=1e-3)


def test_the_same_splits_every_time():
    a, b = load_task("iris"), load_task("iris")
    assert (a.test.x == b.test.x).all()
    other = load_task("iris", split=1)
    assert (a.test.x != other.test.x).any()


def test_unknown_task():
    with pytest.raises(ValueError, match="unknown task 'moon'; choose one of breast_cancer"):
        load_task("moon")


def test_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ours = cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(ours, log_loss(labels, shares, labels=range(4)), rtol=1e-5)
    hits = accuracy(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(hits, (logits.argmax(1) == labels).mean(), rtol=1e-6)
