"""Learned densities on manifolds whose metric is not that of their coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.test_priors import circle as circle_of
from tests.test_priors import covariance, hyperboloid, quadrature, rotation
from wfm.draws import normal_like
from wfm.fields import MLPField
from wfm.flows import FlowMatching, Integrator, VelocityPrediction, rk4
from wfm.manifolds import SO3, SPD, Hyperboloid, PoincareBall
from wfm.priors import standard
from wfm.training import learn

TURN = (-np.pi, np.pi)
# A manifold, a chart from a box, and midpoints along each side.
CASES = {
    "hyperboloid": (Hyperboloid(2), hyperboloid, [(0, 4), TURN], 64),
    "poincare_ball": (
        PoincareBall(2),
        lambda a: circle_of(a[1], jnp.tanh(a[0] / 2)),
        [(0, 4), TURN],
        64,
    ),
    "spd": (SPD(2), covariance, [(-2, 2), (0, 2.5), (0, np.pi)], 32),
    "so3": (SO3(), rotation, [TURN, (0, np.pi), TURN], 26),
}

SPREAD = 0.4  # of the data
# From farther away, where a field was never trained, ways lead to matrices whose condition number
# is above 1/ε: float32 has none, and the density is NaN. Elsewhere it is a number everywhere.
HELD = {SPD: 8 * SPREAD}
ORIGINS = {
    Hyperboloid: jnp.array([1.0, 0.0, 0.0]),
    SPD: jnp.eye(2),
}


@pytest.mark.slow
@pytest.mark.parametrize(("space", "chart", "box", "n"), CASES.values(), ids=CASES)
def test_a_learned_density_integrates_to_1_and_is_that_of_its_samples(space, chart, box, n):
    points, weights = quadrature(space, chart, box, n)
    prior = standard(space, 0.5)
    centre = prior.sample(jax.random.key(5))

    def draw(key):
        return space.exp(centre, SPREAD * space.frame(centre, normal_like(key, centre)))

    keys = jax.random.split(jax.random.key(0), 2000)
    data = jax.jit(jax.vmap(draw))(keys)
    matching = FlowMatching(space, prior=prior, prediction=VelocityPrediction())
    # Where entries grow with the exponential of the distance, normal coordinates are read: they
    # grow with the distance. Elsewhere entries are bounded, and those of SO(3) have no cut.
    origin = ORIGINS.get(type(space))
    normal = origin is not None and (
        lambda flat: space.log(origin, flat.reshape(origin.shape)).ravel()
    )
    module = MLPField(data[0], width=32, depth=2, coordinates=normal or None, rngs=nnx.Rngs(0))
    key = jax.random.key(0)
    flow, _ = learn(matching, module, data, key, steps=300, batch_size=128)
    how = Integrator(16, rk4)
    log_prob = jax.jit(lambda x: jax.lax.map(lambda x: flow.log_prob(x, how), x, batch_size=512))
    distances = jax.jit(jax.vmap(lambda x: space.dist(centre, x)))
    density = jnp.exp(log_prob(points))
    beyond = distances(points) > HELD.get(type(space), jnp.inf)
    assert (jnp.isfinite(density) | beyond).all()
    density = jnp.where(jnp.isnan(density), 0, density)
    assert abs((weights * density).sum() - 1) < 0.01
    # The mean distance of samples from the centre is the density's.
    samples = jax.jit(jax.vmap(lambda k: flow.sample(k, how)))(keys)
    found, expected = distances(samples), (weights * density * distances(points)).sum()
    assert abs(found.mean() - expected) < 4 * found.std() / len(found) ** 0.5 + 0.01
    assert found.mean() < distances(jax.jit(jax.vmap(prior.sample))(keys)).mean() - 0.1
