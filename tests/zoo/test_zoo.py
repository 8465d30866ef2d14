"""Training in bulk against training one at a time, and weight sets."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.weights.traced import DENSE, NORMS
from wfm.evaluation import evaluate
from wfm.tasks import Split, Task, cross_entropy, load_task
from wfm.weights import (
    AsTrained,
    Canonical,
    align_all,
    barycentre,
    load_weights,
    mlp,
    permute,
    random_permutation,
    random_rescaling,
    rescale,
    resnet,
    save_weights,
    trace,
)
from wfm.zoo import Schedule, WeightSet, train_zoo

TASK = load_task("iris")
SPEC = mlp(4, 6, 3)


def initial(n):
    return jax.jit(jax.vmap(AsTrained(SPEC).prior(0.5).sample))(
        jax.random.split(jax.random.key(0), n)
    )


@pytest.fixture(scope="module")
def zoo():
    schedule = Schedule(epochs=12, batch_size=16, burn_in=3, stride=7)
    return train_zoo(SPEC, TASK, initial(4), optax.adam(1e-2), jax.random.key(1), schedule)


def test_what_a_zoo_holds(zoo):
    steps_per_epoch = len(TASK.train) // 16
    steps = np.arange(3 * steps_per_epoch + 7, 12 * steps_per_epoch + 1, 7)
    assert sorted(zip(zoo.trajectory.tolist(), zoo.step.tolist(), strict=True)) == [
        (t, s) for t in range(4) for s in steps.tolist()
    ]
    jax.tree.map(np.testing.assert_array_equal, zoo.initial, initial(4))
    assert set(zoo.metrics) == {
        f"{a}_{b}" for a in ("train", "validation") for b in ("accuracy", "loss")
    }
    last = zoo.last()
    assert last.step.tolist() == [steps[-1]] * 4
    assert last.trajectory.tolist() == [0, 1, 2, 3]
    assert last.metrics["validation_accuracy"].mean() > 0.7


def test_metrics_belong_to_their_snapshot(zoo):
    row = 5
    w = jax.tree.map(lambda a: a[row], zoo.weights)
    logits = jax.vmap(lambda x: SPEC.apply(w, x))(TASK.validation.x)
    expected = cross_entropy(logits, TASK.validation.y)
    np.testing.assert_allclose(zoo.metrics["validation_loss"][row], expected, rtol=1e-4)


def test_full_batch_training_equals_a_plain_loop():
    schedule = Schedule(epochs=5, batch_size=len(TASK.train), burn_in=0, stride=5)
    optimizer = optax.sgd(0.1, momentum=0.9)
    zoo = train_zoo(SPEC, TASK, initial(2), optimizer, jax.random.key(1), schedule)

    def loss(w):
        logits = jax.vmap(lambda x: SPEC.apply(w, x))(TASK.train.x)
        return cross_entropy(logits, TASK.train.y)

    for i in range(2):
        w = jax.tree.map(lambda a, i=i: a[i], initial(2))
        state = optimizer.init(w)
        for _ in range(5):
            change, state = optimizer.update(jax.grad(loss)(w), state)
            w = optax.apply_updates(w, change)
        for name in w:
            np.testing.assert_allclose(zoo.weights[name][i], w[name], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 8])
def test_training_that_stops_early_went_the_same_way(stop):
    def train(**change):
        schedule = Schedule(epochs=2, batch_size=16, burn_in=0, stride=1, **change)
        return train_zoo(
            SPEC, TASK, initial(2), optax.sgd(0.1, momentum=0.9), jax.random.key(1), schedule
        )

    whole, early = train(), train(stop=stop)
    assert int(early.step.max()) == stop < int(whole.step.max())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        whole.select(whole.step <= stop).weights,
        early.weights,
    )


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False])
def test_networks_see_the_same_batches_if_so_scheduled(same):
    schedule = Schedule(epochs=3, batch_size=16, burn_in=1, stride=10, same_batches=same)
    twins = jax.tree.map(lambda a: a[jnp.array([0, 1, 0])], initial(2))
    train = partial(train_zoo, SPEC, TASK, twins, optax.sgd(0.1), jax.random.key(1), schedule)
    weights, alone = train().last().weights, train(at_once=1).last().weights
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), weights, alone)
    kernel = weights["dense1.kernel"]
    assert np.allclose(kernel[0], kernel[2], atol=1e-6) == same
    assert not np.allclose(kernel[0], kernel[1], atol=1e-2)


def test_each_epoch_visits_every_example_once():
    # With loss = sum of w·x over a batch, the weights move by the mean of the inputs visited.
    n, batch = len(TASK.train), 10
    schedule = Schedule(epochs=2, batch_size=batch, burn_in=1, stride=n // batch)
    spec = mlp(4, 3)
    zero = jax.tree.map(
        lambda s: jnp.zeros((1, *s)),
        {a: spec.shape(a) for a in spec.arrays},
        is_leaf=lambda s: isinstance(s, tuple),
    )
    zoo = train_zoo(spec, TASK, zero, optax.sgd(1e-6), jax.random.key(3), schedule)
    # At such a rate both epochs see the same gradient at 0: twice that of all examples.
    full = jax.grad(
        lambda w: cross_entropy(jax.vmap(lambda x: spec.apply(w, x))(TASK.train.x), TASK.train.y)
    )(jax.tree.map(lambda a: a[0], zero))
    for name in full:
        np.testing.assert_allclose(
            zoo.weights[name][0], -1e-6 * 2 * (n // batch) * full[name], rtol=1e-3, atol=1e-9
        )


def test_splits_share_no_trajectory(zoo):
    a, b = zoo.split(0.25, seed=3)
    assert not set(a.trajectory.tolist()) & set(b.trajectory.tolist())
    assert len(a) + len(b) == len(zoo)
    assert len(set(b.trajectory.tolist())) == 1
    with pytest.raises(ValueError, match="leaves one side empty"):
        zoo.split(0.01)


def test_matching_is_unambiguous_on_trained_networks(zoo):
    """Permuted and rescaled copies align to the same point, every one of them."""
    form, n = Canonical(SPEC), len(zoo)
    encode = jax.jit(jax.vmap(form.encode))

    @jax.jit
    @jax.vmap
    def moved(key, w):
        a, b = jax.random.split(key)
        return rescale(
            SPEC, random_rescaling(SPEC, a), permute(SPEC, random_permutation(SPEC, b), w)
        )

    points = encode(zoo.weights)
    copies = encode(moved(jax.random.split(jax.random.key(2), n), zoo.weights))
    reference = barycentre(form.spec, points)
    one, other = (align_all(form.spec, reference, p)[0] for p in (points, copies))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), one, other)


def test_files(zoo, tmp_path):
    zoo.save(tmp_path / "zoo.safetensors")
    again = WeightSet.load(tmp_path / "zoo.safetensors", SPEC)
    jax.tree.map(np.testing.assert_array_equal, again, zoo)
    with pytest.raises(ValueError, match=r"'dense1.kernel' has shape \(4, 6\), expected \(4, 9\)"):
        WeightSet.load(tmp_path / "zoo.safetensors", SPEC.resize(h1=9))


def test_broken_zoos_name_their_trajectories(zoo):
    bad = zoo.weights["dense1.bias"].at[1, 0].set(jnp.nan).at[6, 2].set(jnp.inf)
    broken = WeightSet(
        zoo.weights | {"dense1.bias": bad}, zoo.trajectory, zoo.step, zoo.metrics, zoo.initial
    )
    with pytest.raises(ValueError, match=r"NaN or infinite weights in 2 trajectories \(1, 2\)"):
        broken.check(SPEC)
    with pytest.raises(ValueError, match="the zoo is empty"):
        zoo.select(jnp.zeros(0, int)).check(SPEC)
    with pytest.raises(ValueError, match="NaN or infinite"):
        train_zoo(SPEC, TASK, initial(2), optax.sgd(1e30), jax.random.key(0), Schedule(5, 32, 0, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"burn_in": 50}, "burn_in must lie in"),
        ({"stop": 0}, "stop must be at least 1"),
        ({"batch_size": 16.0}, "batch_size must be a whole number, got 16.0"),
        ({"burn_in": -1}, "burn_in must be at least 0, got -1"),
        ({"stop": 2.5}, "stop must be a whole number"),
    ],
)
def test_impossible_schedules(change, message, as_in_use):
    with pytest.raises(ValueError, match=message):
        Schedule(**change)


def test_no_snapshot_or_no_network():
    with pytest.raises(ValueError, match="lower the stride"):
        train_zoo(
            SPEC, TASK, initial(1), optax.sgd(0.1), jax.random.key(0), Schedule(2, 32, 1, 999)
        )
    with pytest.raises(ValueError, match="no network to train"):
        train_zoo(
            SPEC, TASK, jax.tree.map(lambda a: a[:0], initial(1)), optax.sgd(0.1), jax.random.key(0)
        )


ONES = {name: np.ones(SPEC.shape(name), np.float32) for name in SPEC.arrays}
ONE = jax.tree.map(jnp.asarray, ONES)
NAN = jax.tree.map(lambda a: jnp.asarray(np.stack([a, np.nan * a])), ONES)
BAD = {
    "one network": (SPEC, ONE, "one network where many are expected; stack them"),
    "a network that is NaN": (SPEC, NAN, "the initial weights of networks 1 are NaN or infinite"),
    "another network": (mlp(3, 3), None, "the data have 4 inputs and the network 3"),
    "too few outputs": (mlp(4, 2), None, "the data have a class 2 and the network 2 outputs"),
}


@pytest.mark.parametrize("name", BAD)
def test_networks_that_cannot_be_trained_or_judged(name):
    spec, weights, message = BAD[name]
    if weights is None:
        weights = {name: jnp.zeros((1, *spec.shape(name))) for name in spec.arrays}
    with pytest.raises(ValueError, match=message):
        train_zoo(spec, TASK, weights, optax.sgd(0.1), jax.random.key(0))
    if name != "a network that is NaN":  # which can be judged, if not well
        with pytest.raises(ValueError, match=message):
            evaluate(spec, weights, TASK.test)


def trained(spec, weights, shape):
    """Two networks after one step on three random examples."""
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(3, *shape)).astype("float32"), np.arange(3))
    two = jax.tree.map(lambda a: jnp.stack([a, a]), weights)
    schedule = Schedule(epochs=1, batch_size=3, burn_in=0, stride=1)
    task = Task(split, split, split, 3)
    return train_zoo(spec, task, two, optax.sgd(0.01), jax.random.key(0), schedule)


def test_statistics_of_norms_are_not_learned():
    spec = resnet(8, 2, 1, 3)
    named = r"'stem\.norm\.variance' holds the variances of a norm, .* `batch_norm=False`"
    with pytest.raises(ValueError, match=named):
        trained(spec, {name: jnp.ones(spec.shape(name)) for name in spec.arrays}, (4, 4, 1))


def test_statistics_that_were_found_are_not_learned_and_slopes_are():
    """By the labels both stay as they are when neurons are rescaled."""
    norm, slopes = NORMS["batch norm"], DENSE["slope of each neuron"]
    for apply in (norm.apply, hides_nan):
        found = trace(apply, norm.weights(), norm.inputs()[0])
        with pytest.raises(ValueError, match="'v' holds the variances of a norm"):
            trained(found, found.from_params(norm.weights()), norm.x)
    found, before = trace(slopes.apply, slopes.weights(), slopes.inputs()[0]), slopes.weights()
    assert found.holds_variances("s")
    zoo = trained(found, found.from_params(before), slopes.x)
    assert (zoo.weights["s"] != before["s"][None]).any()


def hides_nan(p, x):
    """BatchNorm and a ReLU that outputs 0 for NaN."""
    z = (x @ p["a"] - p["m"]) * jax.lax.rsqrt(p["v"] + 1e-5) * p["g"] + p["b"]
    return jnp.where(z > 0, z, 0.0) @ p["o"]


def test_figures_of_other_networks(zoo):
    other = eqx.tree_at(lambda z: z.metrics["validation_loss"], zoo, jnp.ones(3))
    with pytest.raises(ValueError, match="24 snapshots, but 3 entries of 'validation_loss'"):
        other.check(SPEC)


def test_a_file_that_was_altered_is_refused(zoo, tmp_path):
    file = tmp_path / "zoo.safetensors"
    zoo.save(file)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"{file} was altered or damaged since its zoo was saved"):
        WeightSet.load(file, SPEC)
    zoo.save(file)
    arrays, marks = load_weights(file)
    assert marks
    save_weights(file, arrays)  # by other tools, which write no seal
    assert len(WeightSet.load(file, SPEC)) == len(zoo)
