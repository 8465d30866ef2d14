"""Couplings: what they cost, what they leave of the prior, and what they are compared with."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import ot as pot
import pytest

from tests.manifolds.table import CASES
from tests.weights.table import NETWORKS, canonical, weights
from wfm.flows import (
    EntropicTransport,
    EquivariantTransport,
    FlowMatching,
    Independent,
    OptimalTransport,
    Paired,
    VelocityPrediction,
)
from wfm.manifolds import Euclidean
from wfm.priors import Prior, Pushforward, standard
from wfm.weights import align, permute, random_permutation

KEY = jax.random.key(0)
SPEC = NETWORKS["mlp"][0]
FORM = canonical(SPEC)
N = 8


def batch(manifold, n, seed=1):
    return jax.jit(jax.vmap(standard(manifold).sample))(jax.random.split(jax.random.key(seed), n))


def total_cost(manifold, x0, x1):
    return float(jnp.sum(jax.vmap(manifold.dist)(x0, x1) ** 2))


def sorted_rows(points):
    rows = np.concatenate([np.asarray(a).reshape(len(a), -1) for a in jax.tree.leaves(points)], 1)
    return rows[np.lexsort(rows.T)]


@pytest.mark.optimised
@pytest.mark.parametrize("manifold", CASES)
def test_the_plan_is_pots_and_uses_every_draw_once(manifold):
    x1, prior = batch(manifold, N), standard(manifold)
    pair = jax.jit(lambda c, k: c.pair(manifold, prior, x1, k))
    independent, same = pair(Independent(), KEY)
    x0, again = pair(OptimalTransport(), KEY)
    chex.assert_trees_all_equal(same, x1)
    chex.assert_trees_all_equal(again, x1)
    np.testing.assert_array_equal(sorted_rows(x0), sorted_rows(independent))
    cost = total_cost(manifold, x0, x1)
    assert cost <= total_cost(manifold, independent, x1) * (1 + 1e-5)
    one = jax.vmap(lambda a: jax.vmap(lambda b: manifold.dist(a, b) ** 2)(x1))
    exact = pot.emd2(*[np.full(N, 1 / N)] * 2, np.asarray(one(independent), float)) * N
    np.testing.assert_allclose(cost, exact, rtol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 64])
def test_batches_of_any_size(n):
    manifold = Euclidean((3,))
    x1 = batch(manifold, n)
    for coupling in (OptimalTransport(), EntropicTransport()):
        x0, _ = jax.jit(lambda k, c=coupling: c.pair(manifold, standard(manifold), x1, k))(KEY)
        assert x0.shape == (n, 3)


@pytest.mark.slow
def test_entropic_plans_lie_between_the_best_and_independent_and_keep_the_prior():
    manifold = Euclidean((2,))
    x1, prior = batch(manifold, 16), standard(manifold)

    def mean_cost(coupling):
        x0, _ = pairs(coupling)
        return float(jnp.mean(jnp.sum((x0 - x1[None]) ** 2, -1)))

    def pairs(coupling):
        draw = lambda k: coupling.pair(manifold, prior, x1, k)  # noqa: E731
        return jax.jit(jax.vmap(draw))(jax.random.split(KEY, 400))

    best, free = mean_cost(OptimalTransport()), mean_cost(Independent())
    costs = [mean_cost(EntropicTransport(e)) for e in (0.03, 0.3, 100.0)]
    assert best * 0.99 < costs[0] < costs[1] < costs[2]
    assert costs[0] < best + 0.2 * (free - best)
    assert costs[2] == pytest.approx(free, rel=0.1)
    x0, _ = pairs(EntropicTransport(0.1))
    means = np.asarray(x0).mean(1)  # of batches, which are independent of each other
    error = means.std(0) / len(means) ** 0.5
    assert (abs(means.mean(0)) < 4 * error).all()
    squares = (np.asarray(x0) ** 2).mean(1)
    assert (abs(squares.mean(0) - 1) < 4 * squares.std(0) / len(squares) ** 0.5).all()


class Fixed(Prior):
    """Given points one after the other, whatever the key: to permute them by hand."""

    points: dict

    def sample(self, key):
        return jax.tree.map(lambda a: a[jax.random.key_data(key)[1] % N], self.points)

    def log_prob(self, x):
        raise NotImplementedError


@pytest.mark.slow
def test_equivariant_transport_is_cheaper_and_blind_to_the_order_of_x0s_neurons():
    manifold, spec = FORM.manifold(), FORM.spec
    points = [FORM.encode(weights(SPEC, s)) for s in range(2 * N)]
    stack = lambda ws: jax.tree.map(lambda *a: jnp.stack(a), *ws)  # noqa: E731
    x1, x0 = stack(points[:N]), stack(points[N:])
    perms = [random_permutation(SPEC, k) for k in jax.random.split(KEY, N)]
    moved = jax.vmap(partial(permute, spec))(stack(perms), x0)
    coupling = EquivariantTransport(partial(align, spec))

    @jax.jit
    def pair(x0):
        return coupling.pair(manifold, Fixed(x0), x1, KEY)[0]

    ours, theirs = pair(x0), pair(moved)
    chex.assert_trees_all_close(ours, theirs, atol=1e-5)
    plain, _ = OptimalTransport().pair(manifold, Fixed(x0), x1, KEY)
    assert total_cost(manifold, ours, x1) < total_cost(manifold, plain, x1)


def swap_to(x1, x0):
    """The group of two that swaps the entries of a pair."""
    swapped = x0[::-1]
    return jnp.where(jnp.sum((x1 - swapped) ** 2) < jnp.sum((x1 - x0) ** 2), swapped, x0)


@pytest.mark.slow
def test_equivariant_transport_keeps_the_prior_only_up_to_the_symmetry():
    """The bias that a field which tells coordinates apart would learn, in closed form.

    Data at (1, -1) alone, prior N(0, I) in the plane: x₀ is swapped so that its first entry is the
    larger. Its difference is then |N(0, 2)|, of mean 2/√π, where the prior's has mean 0.
    """
    plane, n = Euclidean((2,)), 4000
    x1 = jnp.tile(jnp.array([1.0, -1.0]), (n, 1))

    def difference(coupling):
        draws = [
            coupling.pair(plane, standard(plane), x1[:64], k)[0]
            for k in jax.random.split(KEY, n // 64)
        ]
        d = np.concatenate([np.asarray(x0[:, 0] - x0[:, 1]) for x0 in draws])
        return d, d.std() / len(d) ** 0.5

    d, error = difference(OptimalTransport())
    assert abs(d.mean()) < 4 * error
    d, error = difference(EquivariantTransport(swap_to))
    assert abs(d.mean() - 2 / np.pi**0.5) < 4 * error
    assert (d >= 0).all()
    # Up to the swap nothing has changed: |N(0, 2)| has the second moment 2.
    assert abs((d**2).mean() - 2) < 4 * (d**2).std() / len(d) ** 0.5


def test_given_pairs_are_what_the_flow_learns_from():
    line = Euclidean((2,))
    x0, x1 = batch(line, 6, 1), batch(line, 6, 2)
    matching = FlowMatching(line, coupling=Paired(), prediction=VelocityPrediction())
    # Straight paths with the velocity x₁ - x₀, which this field knows by heart.
    assert float(matching.loss(lambda t, x: x1[0] - x0[0], (x0[:1], x1[:1]), KEY)) < 1e-10
    assert float(matching.loss(lambda t, x: 0 * x, (x0, x1), KEY)) == pytest.approx(
        float(((x1 - x0) ** 2).sum(1).mean()), rel=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("coupling", [OptimalTransport(), EntropicTransport()])
def test_a_flow_trains_with_every_coupling(coupling):
    manifold = FORM.manifold()
    x1 = jax.vmap(FORM.encode)(
        jax.tree.map(lambda *a: jnp.stack(a), *(weights(SPEC, s) for s in range(4)))
    )
    prior = Pushforward(standard(manifold), lambda x: x)
    matching = FlowMatching(manifold, prior=prior, coupling=coupling)
    field = lambda s: lambda t, x: jax.tree.map(lambda a: s * a, x)  # noqa: E731
    loss, gradient = jax.jit(jax.value_and_grad(lambda s: matching.loss(field(s), x1, KEY)))(0.5)
    assert loss > 0
    assert jnp.isfinite(gradient)


@pytest.mark.parametrize("epsilon", [0.0, -1.0])
def test_entropy_without_weight_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon must be positive"):
        EntropicTransport(epsilon)
