"""Finding corresponding neurons: every way to match, over all networks, on planted answers."""

import functools
import itertools

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from tests.weights.table import (
    CASES,
    NETWORKS,
    aligned,
    canonical,
    drawn,
    encoded,
    inputs,
    outputs,
    weights,
)
from wfm.tasks import cross_entropy
from wfm.weights import (
    ActivationMatching,
    AsTrained,
    MidpointLoss,
    RandomPointLoss,
    SinkhornMatching,
    WeightMatching,
    align,
    align_all,
    align_each,
    barycentre,
    cycle_consistency,
    lenet5,
    mlp,
    permute,
    random_permutation,
    random_rescaling,
    rescale,
    resnet,
    siren,
    small_cnn,
    vit,
)

networks = pytest.mark.parametrize(("spec", "shape"), CASES)
seeds = st.integers(0, 10_000)


def close(a, b, tolerance=2e-5):
    chex.assert_trees_all_close(a, b, rtol=tolerance, atol=tolerance)


def planted(spec, n, std=0.5):
    """Random networks, stacked, and the same with their neurons shuffled."""
    draws = jax.jit(jax.vmap(lambda key: drawn(spec, key, std)))(
        jax.random.split(jax.random.key(0), n)
    )
    shuffles = jax.vmap(functools.partial(random_permutation, spec))(
        jax.random.split(jax.random.key(1), n)
    )
    return draws, jax.vmap(functools.partial(permute, spec))(shuffles, draws)


@pytest.mark.slow
@networks
@given(seeds)
def test_canonicalised_alignment_undoes_both_symmetries(spec, shape, seed):
    form, w, key = canonical(spec), weights(spec, seed), jax.random.key(seed)
    moved = permute(
        spec, random_permutation(spec, key), rescale(spec, random_rescaling(spec, key), w)
    )
    reference = encoded(form, weights(spec, seed + 1))
    once = aligned(form.spec, reference, encoded(form, w))
    close(aligned(form.spec, reference, encoded(form, moved)), once, 1e-4)


@networks
@given(seeds)
def test_alignment_recovers_a_planted_permutation(spec, shape, seed):
    w = weights(spec, seed)
    moved = permute(spec, random_permutation(spec, jax.random.key(seed)), w)
    chex.assert_trees_all_equal(aligned(spec, w, moved), w)


@pytest.mark.slow
def test_every_sweep_of_matching_is_needed_and_lowers_the_distance():
    spec = NETWORKS["deep"][0]

    def distance(a, b):
        return sum(float(((a[n] - b[n]) ** 2).sum()) for n in a)

    first = jax.jit(lambda a, b: align(spec, a, b, WeightMatching(max_sweeps=0)))
    gains = []
    for seed in range(20):
        a, b = weights(spec, seed), weights(spec, seed + 100)
        start, end = first(a, b), aligned(spec, a, b)
        assert distance(a, end) <= distance(a, start) + 1e-4
        assert distance(a, end) < distance(a, b)
        gains.append(distance(a, start) - distance(a, end))
    assert max(gains) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 5, 7])
def test_aligning_many_equals_aligning_each(n):
    spec = NETWORKS["mlp"][0]
    reference = weights(spec, 0)
    each = [weights(spec, i + 1) for i in range(n)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *each)
    all_aligned, permutations = align_all(spec, reference, stacked, chunk=3)
    for i, w in enumerate(each):
        own = jax.tree.map(lambda a, i=i: a[i], permutations)
        close(jax.tree.map(lambda a, i=i: a[i], all_aligned), aligned(spec, reference, w))
        close(permute(spec, own, w), aligned(spec, reference, w))


@pytest.mark.slow
@pytest.mark.parametrize("spec", [mlp(30, 16, 16, 2), mlp(784, 10, 10)], ids=["uci", "mnist"])
@pytest.mark.parametrize("matching", [WeightMatching(), SinkhornMatching()], ids=["wm", "sinkhorn"])
def test_a_hundred_of_a_hundred_planted_permutations_are_undone(spec, matching):
    draws, shuffled = planted(spec, 100, std=0.1)
    chex.assert_trees_all_equal(align_each(spec, draws, shuffled, matching)[0], draws)


IN_USE = {
    "layer norm": mlp(30, 16, 16, 2, layer_norm=True),
    "small cnn": small_cnn(),
    "lenet5": lenet5(),
    "resnet": resnet(8, 8, 1),
    "vit": vit(),
    "siren": siren(2, 32, 32, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("spec", IN_USE.values(), ids=IN_USE)
def test_a_hundred_of_a_hundred_permuted_and_rescaled_networks_are_undone(spec):
    """Of the sizes in use; errors are relative, since small gains make large shifts."""
    form, (draws, shuffled) = canonical(spec), planted(spec, 100, std=0.1)
    keys = jax.random.split(jax.random.key(2), 100)
    move = jax.jit(jax.vmap(lambda k, w: rescale(spec, random_rescaling(spec, k), w)))
    points, moved = form.encode_all(draws), form.encode_all(move(keys, shuffled))
    found, _ = align_each(form.spec, points, moved, chunk=25)
    for name in points:
        size = jnp.abs(points[name]).max() + 1e-6
        close(found[name] / size, points[name] / size, 1e-5)


@pytest.mark.slow
@networks
def test_sinkhorn_matching_recovers_planted_permutations(spec, shape):
    draws, shuffled = planted(spec, 8)
    chex.assert_trees_all_equal(align_each(spec, draws, shuffled, SinkhornMatching())[0], draws)


@pytest.mark.slow
@networks
def test_matching_by_activations_recovers_what_the_data_show(spec, shape):
    """Neurons that are silent on all data are alike, so activations are compared, not weights."""
    x = inputs(shape, 50)
    draws, shuffled = planted(spec, 4)
    found, _ = align_each(spec, draws, shuffled, ActivationMatching(x))
    act = jax.jit(jax.vmap(lambda w: jax.vmap(lambda x: spec.activations(w, x))(x)))
    close(act(found), act(draws), 1e-4)
    assert act(found).keys() == set(spec.groups) - {"in"}
    for group, a in act(found).items():
        assert a.shape[-1] == spec.groups[group].size


@pytest.mark.slow
@pytest.mark.parametrize("objective", [MidpointLoss, RandomPointLoss])
def test_the_losses_on_the_way_are_lowered(objective):
    """Labels that a teacher gives; networks near permuted copies of it have a barrier between."""
    spec, shape = NETWORKS["mlp"]
    x = inputs(shape, 100)
    teacher = jax.tree.map(lambda a: 2 * a, weights(spec, 0))
    labels = outputs(spec, teacher, x).argmax(-1)

    def loss(w):
        return cross_entropy(jax.vmap(lambda x: spec.apply(w, x))(x), labels)

    keys = jax.random.split(jax.random.key(3), 8)
    shuffle = lambda k: permute(spec, random_permutation(spec, k), teacher)  # noqa: E731
    copies = jax.vmap(shuffle)(keys)
    moved, _ = align_all(spec, teacher, copies, SinkhornMatching(objective(loss)))
    middle = lambda w: loss(jax.tree.map(lambda a, b: (a + b) / 2, teacher, w))  # noqa: E731
    before, after = (jax.jit(jax.vmap(middle))(w).mean() for w in (copies, moved))
    assert before > loss(teacher) + 0.1
    assert after < loss(teacher) + 0.1 * (before - loss(teacher))


@pytest.mark.slow
def test_aligning_to_partners_equals_aligning_each():
    spec = NETWORKS["mlp"][0]
    pairs = [(weights(spec, i), weights(spec, i + 10)) for i in range(5)]
    stack = lambda ws: jax.tree.map(lambda *a: jnp.stack(a), *ws)  # noqa: E731
    references, others = map(stack, zip(*pairs, strict=True))
    moved, _ = align_each(spec, references, others, chunk=2)
    for i, (reference, other) in enumerate(pairs):
        close(jax.tree.map(lambda a, i=i: a[i], moved), aligned(spec, reference, other))


@pytest.mark.parametrize(
    "matching", [WeightMatching(), SinkhornMatching(), ActivationMatching(jnp.ones((3, 5)))]
)
def test_single_neurons_and_single_networks(matching):
    spec = mlp(5, 1, 1, 2)
    one = jax.tree.map(lambda a: a[None], weights(spec, 0))
    found, permutations = align_all(spec, weights(spec, 1), one, matching)
    chex.assert_trees_all_equal(found, one)
    assert {p.shape for p in permutations.values()} == {(1, 1)}
    chex.assert_trees_all_equal(barycentre(spec, one, matching), weights(spec, 0))


def test_references_that_do_not_fit_are_refused():
    spec = NETWORKS["mlp"][0]
    stacked = jax.tree.map(lambda a: a[None], weights(spec, 0))
    with pytest.raises(ValueError, match="weights do not fit the network"):
        align_all(spec, weights(spec.resize(h1=9), 0), stacked)
    with pytest.raises(ValueError, match="one network where many are expected"):
        align_each(spec, weights(spec, 0), stacked)
    with pytest.raises(ValueError, match="at least one input"):
        ActivationMatching(jnp.zeros((0, 5)))
    none = jax.tree.map(lambda a: a[:0], stacked)
    for work in (align_all, lambda s, r, w: barycentre(s, w)):
        with pytest.raises(ValueError, match="no networks"):
            work(spec, weights(spec, 0), none)
    with pytest.raises(ValueError, match="cannot be negative, got 50 and -1"):
        WeightMatching(restarts=-1)
    with pytest.raises(ValueError, match="at least three, got 1"):
        cycle_consistency(spec, stacked)
    for bad in ({"steps": 0}, {"learning_rate": 0.0}, {"temperatures": (1.0, 0.0)}):
        with pytest.raises(ValueError, match="positive"):
            SinkhornMatching(**bad)


@pytest.mark.slow
def test_barycentre_undoes_hidden_permutations_and_lies_amid_the_networks():
    """Noisy permuted copies of one network: the mean is that network, up to a permutation."""
    spec, n, noise = NETWORKS["mlp"][0], 30, 0.1
    centre = weights(spec, 0)

    def copy(key):
        keys = jax.random.split(key)
        moved = permute(spec, random_permutation(spec, keys[0]), centre)
        draws = AsTrained(spec).prior(noise).sample(keys[1])
        return jax.tree.map(jnp.add, moved, draws)

    copies = jax.vmap(copy)(jax.random.split(jax.random.key(1), n))
    found = aligned(spec, centre, barycentre(spec, copies))
    # Standard error of each entry: noise / sqrt(n).
    chex.assert_trees_all_close(found, centre, atol=5 * noise / n**0.5)


@pytest.mark.slow
def test_barycentre_is_nearer_to_all_than_any_network_is():
    spec = NETWORKS["mlp"][0]
    many = jax.vmap(lambda k: AsTrained(spec).prior(0.5).sample(k))(
        jax.random.split(jax.random.key(0), 20)
    )

    def spread(reference):
        moved, _ = align_all(spec, reference, many)
        return sum(float(a.var(0).sum()) for a in moved.values())

    best = min(spread(jax.tree.map(lambda a, i=i: a[i], many)) for i in range(20))
    assert spread(barycentre(spec, many)) < best


def gaps(a, b):
    """Squared distances of stacked networks."""
    return sum(np.asarray((a[n] - b[n]) ** 2).reshape(len(a[n]), -1).sum(1) for n in a)


@pytest.mark.slow
def test_restarts_find_the_best_of_all_permutations_whatever_the_order_of_neurons():
    spec, n = mlp(3, 4, 4, 2), 40
    both, moved = planted(spec, 2 * n)
    others = jax.tree.map(lambda a: a[:n], both)
    draws, shuffled = (jax.tree.map(lambda a: a[n:], w) for w in (both, moved))
    orders = [jnp.array(list(itertools.permutations(range(4))))] * 2
    grid = jnp.meshgrid(*[jnp.arange(24)] * 2, indexing="ij")
    everything = {g: o[i.ravel()] for g, o, i in zip(("h1", "h2"), orders, grid, strict=True)}

    @jax.jit
    @jax.vmap
    def least(a, b):
        moved = jax.vmap(lambda p: permute(spec, p, b))(everything)
        return sum(((a[k][None] - moved[k]) ** 2).reshape(24**2, -1).sum(1) for k in a).min()

    best = np.asarray(least(others, draws))
    excess = [
        gaps(others, align_each(spec, others, draws, WeightMatching(restarts=r))[0]) - best
        for r in (0, 16)
    ]
    assert (excess[1] > -1e-4).all()
    assert (excess[0] > 1e-3).sum() >= 4  # what descent from one start misses
    assert (excess[1] > 1e-3).sum() == 0
    again, _ = align_each(spec, others, shuffled, WeightMatching(restarts=16))
    np.testing.assert_allclose(gaps(others, again), best, atol=1e-4)


@pytest.mark.slow
def test_neurons_come_home_where_networks_are_copies():
    spec, n = mlp(5, 8, 6, 3), 5
    draws, shuffled = planted(spec, n)
    copies = jax.vmap(lambda k: permute(spec, random_permutation(spec, k), weights(spec, 0)))(
        jax.random.split(jax.random.key(2), n)
    )
    assert {float(s.min()) for s in cycle_consistency(spec, copies).values()} == {1.0}
    found = cycle_consistency(spec, draws)
    match = jax.jit(lambda a, b: WeightMatching()(spec, a, b))
    for i in range(n):
        a, b, c = (jax.tree.map(lambda x, k=(i + j) % n: x[k], draws) for j in range(3))
        ways = [match(*pair) for pair in ((a, b), (b, c), (c, a))]
        for group, share in found.items():
            home = ways[2][group][ways[1][group][ways[0][group]]]
            assert share[i] == pytest.approx(float((home == jnp.arange(len(home))).mean()))
    assert min(float(s.mean()) for s in found.values()) < 0.7
    # Networks and their reordered copies go the same ways.
    for group, share in cycle_consistency(spec, shuffled).items():
        np.testing.assert_allclose(share, found[group])


@pytest.mark.slow
def test_barycentres_settle():
    spec = NETWORKS["mlp"][0]
    many, _ = planted(spec, 12)
    settled = barycentre(spec, many, tolerance=0.0)
    moved, _ = align_all(spec, settled, many)
    close(jax.tree.map(lambda a: a.mean(0), moved), settled)
    early = barycentre(spec, many, rounds=1)
    spread = lambda m: gaps(align_all(spec, m, many)[0], jax.tree.map(lambda a: a[None], m)).mean()  # noqa: E731
    assert spread(settled) < spread(early)


@pytest.mark.slow
def test_networks_that_are_not_numbers_are_named_or_kept_apart():
    spec = NETWORKS["mlp"][0]
    many, _ = planted(spec, 4)
    reference = weights(spec, 9)
    last = list(many)[-2]
    bad = many | {last: many[last].at[2, 0].set(jnp.nan)}
    for work in (lambda: align_all(spec, reference, bad), lambda: barycentre(spec, bad)):
        with pytest.raises(ValueError, match=r"1 of the networks to align \(2\) hold NaN"):
            work()
    with pytest.raises(ValueError, match="references 2 hold NaN"):
        align_each(spec, bad, many)
    with pytest.raises(ValueError, match="the reference holds NaN or infinity"):
        align_all(spec, jax.tree.map(lambda a: a[2], bad), many)
    with pytest.raises(ValueError, match="the network holds NaN or infinity"):
        align(spec, reference, jax.tree.map(lambda a: a[2], bad))
    compiled = jax.jit(jax.vmap(functools.partial(align, spec, reference)))
    found, right = compiled(bad), compiled(many)
    for i in range(4):
        same = (bad if i == 2 else right)[last][i]
        np.testing.assert_array_equal(found[last][i], same)
