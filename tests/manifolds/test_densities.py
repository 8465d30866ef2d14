"""`random` follows the density that `log_prob_random` claims, and that integrates to 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree

from tests.manifolds.table import Jitted
from wfm.manifolds import (
    SO3,
    SPD,
    Euclidean,
    Hyperboloid,
    PoincareBall,
    Product,
    Sphere,
    Torus,
    ZeroSum,
)

N_DRAWS = 5_000


def circle(angle, radius=1.0):
    return radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def sphere(angles, radius):
    return jnp.append(jnp.sin(angles[0]) * circle(angles[1], radius), radius * jnp.cos(angles[0]))


def hyperboloid(a):
    return jnp.append(jnp.cosh(a[0]), circle(a[1], jnp.sinh(a[0])))


def turned(angle):
    """The rotation about the last axis."""
    return jnp.eye(3).at[:2, :2].set(circle(angle, 1)[0] * jnp.eye(2) + tilt(jnp.sin(angle)))


def tilt(sin):
    return sin * jnp.array([[0.0, -1.0], [1.0, 0.0]])


def rotation(angles):
    """By Euler's angles."""
    swap = jnp.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    about_another = swap @ turned(angles[1]) @ swap.T
    return turned(angles[0]) @ about_another @ turned(angles[2])


def covariance(a):
    """Of eigenvalues exp(a₀ ± a₁), turned."""
    axes = turned(a[2])[:2, :2]
    return axes * jnp.exp(a[0] + a[1] * jnp.array([[1.0, -1.0]])) @ axes.T


TURN = (-np.pi, np.pi)
# A manifold, a chart from a box onto it, and the box: the chart's Jacobian gives the volume.
CHARTS = {
    "circle": (Sphere((2,), radius=1.5), lambda a: circle(a[0], 1.5), [TURN]),
    "sphere": (Sphere((3,), radius=2.0), lambda a: sphere(a, 2.0), [(0, np.pi), TURN]),
    "two_circles": (Sphere((2, 2), axes=0, radius=0.5), lambda a: circle(a, 0.5), [TURN, TURN]),
    "torus": (Torus((2,)), lambda a: a, [TURN, TURN]),
    "euclidean": (Euclidean((2,), std=0.3), lambda a: a, [(-2, 2), (-2, 2)]),
    "zero_sum": (
        ZeroSum(Sphere((3,), radius=1.5), Sphere((2,), radius=1.5), axis=0),
        lambda a: (
            circle(a[0], 1.5)
            @ jnp.array([[1, -1, 0], [1 / 3**0.5, 1 / 3**0.5, -2 / 3**0.5]])
            / 2**0.5
        ),
        [TURN],
    ),
    "hyperboloid": (Hyperboloid(2, std=0.4), hyperboloid, [(0, 4), TURN]),
    "poincare_ball": (
        PoincareBall(2, std=0.6),
        lambda a: circle(a[1], jnp.tanh(a[0] / 2)),
        [(0, 5), TURN],
    ),
    "spd": (SPD(2, std=0.4), covariance, [(-1.4, 1.4), (0, 1.4), (0, np.pi)]),
    "so3": (SO3(), rotation, [TURN, (0, np.pi), TURN]),
    "product": (
        Product({"w": Sphere((2,)), "b": Euclidean((), std=0.5)}),
        lambda a: {"w": circle(a[0]), "b": a[1]},
        [TURN, (-3, 3)],
    ),
}


def statistics(x):
    """Moments and other functions of a point, none of them symmetric in its entries."""
    x = ravel_pytree(x)[0]
    tilted = jnp.exp(x @ jnp.cos(jnp.arange(x.size, dtype=x.dtype)))
    return jnp.concatenate([x, x**2, x[:1] * x[-1:], tilted[None]])


def quadrature(manifold, chart, box, n=None):
    """Points of the midpoint rule, and their weights by the manifold's own volume."""
    n = n or {1: 128, 2: 128, 3: 40}[len(box)]
    edges = [jnp.linspace(low, high, 2 * n + 1)[1::2] for low, high in box]
    grid = jnp.stack(jnp.meshgrid(*edges), axis=-1).reshape(-1, len(box))

    @jax.vmap
    def volume(a):
        x = chart(a)
        sides = jax.vmap(lambda e: jax.jvp(chart, (a,), (e,))[1])(jnp.eye(len(box)))
        inner = jax.vmap(jax.vmap(manifold.inner, (None, None, 0)), (None, 0, None))
        return x, jnp.sqrt(jnp.linalg.det(inner(x, sides, sides)))

    points, volumes = jax.jit(volume)(grid)
    return points, volumes * np.prod([(high - low) / n for low, high in box])


def integrals(manifold, chart, box):
    """By the midpoint rule: the density's integral and its expectations of the statistics."""
    points, weights = quadrature(manifold, chart, box)
    evaluate = jax.vmap(lambda x: (jnp.exp(manifold.log_prob_random(x)), statistics(x)))
    density, values = jax.jit(evaluate)(points)
    weights = weights * density
    return weights.sum(), weights @ values


@jax.jit
def draws(manifold):
    return jax.vmap(manifold.random)(jax.random.split(jax.random.key(0), N_DRAWS))


@pytest.mark.parametrize(("manifold", "chart", "box"), CHARTS.values(), ids=CHARTS.keys())
def test_random_follows_a_density_that_integrates_to_one(manifold, chart, box):
    total, expected = integrals(manifold, chart, box)
    assert total == pytest.approx(1.0, abs=1e-3)
    values = np.asarray(jax.jit(jax.vmap(statistics))(draws(manifold)))
    standard_errors = values.std(0) / np.sqrt(len(values))
    assert (np.abs(values.mean(0) - expected) < 4 * standard_errors + 1e-3 * np.abs(expected)).all()


# How many spheres each is, and the dimension of the space around one of them.
SPHERES = {
    "sphere": (Sphere((3,)), 1, 3),
    "whole_array": (Sphere((4, 3), radius=2**0.5), 1, 12),
    "columns": (Sphere((5, 3), axes=0), 3, 5),
    "conv": (Sphere((3, 3, 2, 4), axes=(0, 1, 2), radius=3.0), 4, 18),
}


@pytest.mark.parametrize(("manifold", "n_spheres", "n"), SPHERES.values(), ids=SPHERES.keys())
def test_spheres_are_uniform_as_in_scipy(manifold, n_spheres, n):
    x = np.asarray(draws(manifold)).reshape(N_DRAWS, -1) / manifold.radius

    uniform = scipy.stats.vonmises_fisher(np.eye(n)[0], kappa=1e-6)
    expected = n_spheres * (uniform.logpdf(np.eye(n)[1]) - (n - 1) * np.log(manifold.radius))
    assert manifold.log_prob_random(draws(manifold)[0]) == pytest.approx(expected, rel=1e-5)

    marginal = scipy.stats.beta((n - 1) / 2, (n - 1) / 2, loc=-1, scale=2)
    assert min(scipy.stats.kstest(entry, marginal.cdf).pvalue for entry in x.T[::5]) > 1e-4

    second_moment, standard_error = x.T @ x / N_DRAWS, np.sqrt((x**2).T @ x**2) / N_DRAWS
    assert (np.abs(second_moment - np.eye(x.shape[1]) / n) < 5 * standard_error).all()


@pytest.mark.parametrize(
    ("manifold", "reference"),
    [
        (Euclidean((2, 3)), scipy.stats.norm()),
        (Euclidean((4,), std=0.3), scipy.stats.norm(scale=0.3)),
        (Torus((3,)), scipy.stats.uniform(-np.pi, 2 * np.pi)),
    ],
)
def test_flat_manifolds_as_in_scipy(manifold, reference):
    x = np.asarray(draws(manifold))
    log_probs = jax.jit(jax.vmap(manifold.log_prob_random))(x[:10])
    expected = reference.logpdf(x[:10]).reshape(10, -1).sum(1)
    np.testing.assert_allclose(log_probs, expected, rtol=1e-4)
    assert scipy.stats.kstest(x.ravel(), reference.cdf).pvalue > 1e-4


def test_product_multiplies_densities():
    parts = {"w": Sphere((5, 3), axes=0), "b": Euclidean((3,), std=0.5), "a": Torus((2,))}
    product = Product({"layer": Product(parts)})
    (x,) = Jitted(product).points(0, 1)
    expected = sum(float(parts[name].log_prob_random(x["layer"][name])) for name in parts)
    assert product.log_prob_random(x) == pytest.approx(expected, rel=1e-6)
    assert product.dim == sum(part.dim for part in parts.values()) == 4 * 3 + 3 + 2


def test_factors_of_a_product_are_drawn_independently():
    x = draws(Product([Euclidean(()), Euclidean(()), Torus(())]))
    correlation = np.corrcoef(np.stack(x))
    assert (np.abs(correlation - np.eye(3)) < 4 / np.sqrt(N_DRAWS)).all()
