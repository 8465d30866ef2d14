"""Draws of every prior follow the density that it claims, and that integrates to 1."""

import chex
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
from wfm.priors import ProductPrior, Uniform, WrappedNormal, standard

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
# A prior, a chart from a box onto its manifold, and the box; the chart's Jacobian gives the volume.
CHARTS = {
    "circle": (Uniform(Sphere((2,), radius=1.5)), lambda a: circle(a[0], 1.5), [TURN]),
    "sphere": (Uniform(Sphere((3,), radius=2.0)), lambda a: sphere(a, 2.0), [(0, np.pi), TURN]),
    "two_circles": (
        Uniform(Sphere((2, 2), axes=0, radius=0.5)),
        lambda a: circle(a, 0.5),
        [TURN, TURN],
    ),
    "torus": (Uniform(Torus((2,))), lambda a: a, [TURN, TURN]),
    "flat_zero_sum": (
        WrappedNormal(ZeroSum(Euclidean((3,)), Euclidean((2,)), axis=0), 0.4),
        lambda a: a[0] * jnp.array([1, -1, 0]) / 2**0.5 + a[1] * jnp.array([1, 1, -2]) / 6**0.5,
        [(-2, 2), (-2, 2)],
    ),
    "euclidean": (
        WrappedNormal(Euclidean((2,)), 0.3, 0.2),
        lambda a: a,
        [(-1.8, 2.2), (-1.8, 2.2)],
    ),
    "zero_sum": (
        Uniform(ZeroSum(Sphere((3,), radius=1.5), Sphere((2,), radius=1.5), axis=0)),
        lambda a: (
            circle(a[0], 1.5)
            @ jnp.array([[1, -1, 0], [1 / 3**0.5, 1 / 3**0.5, -2 / 3**0.5]])
            / 2**0.5
        ),
        [TURN],
    ),
    "hyperboloid": (WrappedNormal(Hyperboloid(2), 0.4), hyperboloid, [(0, 4), TURN]),
    "poincare_ball": (
        WrappedNormal(PoincareBall(2), 0.6),
        lambda a: circle(a[1], jnp.tanh(a[0] / 2)),
        [(0, 5), TURN],
    ),
    "spd": (WrappedNormal(SPD(2), 0.4), covariance, [(-1.4, 1.4), (0, 1.4), (0, np.pi)]),
    "so3": (Uniform(SO3()), rotation, [TURN, (0, np.pi), TURN]),
    "product": (
        standard(Product({"w": Sphere((2,)), "b": Euclidean(())}), 0.5),
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


def manifold_of(prior):
    """Where its draws live."""
    if isinstance(prior, ProductPrior):
        return Product({name: manifold_of(factor) for name, factor in prior.factors.items()})
    return prior.manifold


def integrals(prior, chart, box):
    """By the midpoint rule: the density's integral and its expectations of the statistics."""
    points, weights = quadrature(manifold_of(prior), chart, box)
    evaluate = jax.vmap(lambda x: (jnp.exp(prior.log_prob(x)), statistics(x)))
    density, values = jax.jit(evaluate)(points)
    weights = weights * density
    return weights.sum(), weights @ values


@jax.jit
def draws(prior):
    return jax.vmap(prior.sample)(jax.random.split(jax.random.key(0), N_DRAWS))


@pytest.mark.parametrize(("prior", "chart", "box"), CHARTS.values(), ids=CHARTS.keys())
def test_draws_follow_a_density_that_integrates_to_one(prior, chart, box):
    total, expected = integrals(prior, chart, box)
    assert total == pytest.approx(1.0, abs=1e-3)
    values = np.asarray(jax.jit(jax.vmap(statistics))(draws(prior)))
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
    prior = Uniform(manifold)
    x = np.asarray(draws(prior)).reshape(N_DRAWS, -1) / manifold.radius

    uniform = scipy.stats.vonmises_fisher(np.eye(n)[0], kappa=1e-6)
    expected = n_spheres * (uniform.logpdf(np.eye(n)[1]) - (n - 1) * np.log(manifold.radius))
    assert prior.log_prob(draws(prior)[0]) == pytest.approx(expected, rel=1e-5)

    marginal = scipy.stats.beta((n - 1) / 2, (n - 1) / 2, loc=-1, scale=2)
    assert min(scipy.stats.kstest(entry, marginal.cdf).pvalue for entry in x.T[::5]) > 1e-4

    second_moment, standard_error = x.T @ x / N_DRAWS, np.sqrt((x**2).T @ x**2) / N_DRAWS
    assert (np.abs(second_moment - np.eye(x.shape[1]) / n) < 5 * standard_error).all()


@pytest.mark.parametrize(
    ("prior", "reference"),
    [
        (WrappedNormal(Euclidean((2, 3))), scipy.stats.norm()),
        (WrappedNormal(Euclidean((4,)), 0.3, -2.0), scipy.stats.norm(-2, 0.3)),
        (Uniform(Torus((3,))), scipy.stats.uniform(-np.pi, 2 * np.pi)),
    ],
)
def test_flat_priors_as_in_scipy(prior, reference):
    x = np.asarray(draws(prior))
    log_probs = jax.jit(jax.vmap(prior.log_prob))(x[:10])
    expected = reference.logpdf(x[:10]).reshape(10, -1).sum(1)
    np.testing.assert_allclose(log_probs, expected, rtol=1e-4)
    assert scipy.stats.kstest(x.ravel(), reference.cdf).pvalue > 1e-4


def test_product_multiplies_densities():
    parts = {"w": Sphere((5, 3), axes=0), "b": Euclidean((3,)), "a": Torus((2,))}
    product = Product({"layer": Product(parts)})
    (x,) = Jitted(product).points(0, 1)
    expected = sum(float(standard(m, 0.5).log_prob(x["layer"][name])) for name, m in parts.items())
    assert standard(product, 0.5).log_prob(x) == pytest.approx(expected, rel=1e-6)
    assert product.dim == sum(part.dim for part in parts.values()) == 4 * 3 + 3 + 2


def test_factors_of_a_product_are_drawn_independently():
    x = draws(standard(Product([Euclidean(()), Euclidean(()), Torus(())])))
    correlation = np.corrcoef(np.stack(x))
    assert (np.abs(correlation - np.eye(3)) < 4 / np.sqrt(N_DRAWS)).all()


@pytest.mark.parametrize("manifold", [Hyperboloid(3), PoincareBall(2), SPD(2), Euclidean((2,))])
def test_a_stretch_is_the_determinant_of_the_exponential_map(manifold):
    """Of its derivatives along an orthonormal basis at the origin, in float64."""

    @jax.jit
    def both():
        o = manifold.origin()
        draws = jax.vmap(manifold.normal)(jax.random.split(jax.random.key(0), manifold.dim))
        inners = lambda x, vs: jax.vmap(  # noqa: E731
            lambda a: jax.vmap(lambda b: manifold.inner(x, a, b))(vs)
        )(vs)
        gram = inners(o, draws)
        sides = jnp.tensordot(jnp.linalg.inv(jnp.linalg.cholesky(gram)), draws, 1)
        v = 1.3 * manifold.normal(jax.random.key(9))
        x = manifold.exp(o, v)
        moved = jax.vmap(lambda e: jax.jvp(lambda v: manifold.exp(o, v), (v,), (e,))[1])(sides)
        gram = inners(x, moved)
        return manifold.log_stretch(x), jnp.linalg.slogdet(gram)[1] / 2

    with jax.enable_x64(True):
        np.testing.assert_allclose(*both(), atol=1e-6)


@pytest.mark.parametrize("std", [0.0, -1.0, float("inf"), float("nan")])
def test_a_standard_deviation_is_positive_and_finite(std):
    with pytest.raises(ValueError, match="must be positive, got"):
        WrappedNormal(Hyperboloid(2), std)


def test_means_are_finite_and_of_flat_spaces():
    with pytest.raises(ValueError, match="finite"):
        WrappedNormal(Euclidean((2,)), mean=float("inf"))
    sums_to_0 = ZeroSum(Euclidean((3,)), Euclidean((2,)), axis=0)
    for curved in (Hyperboloid(2), sums_to_0):
        with pytest.raises(ValueError, match="only priors in flat space have a mean"):
            WrappedNormal(curved, mean=0.1)
        with pytest.raises(NotImplementedError, match="not Gaussian"):
            WrappedNormal(curved).gaussian()


@pytest.mark.parametrize("manifold", [Hyperboloid(2), Euclidean((2,)), SPD(2)])
def test_what_is_not_compact_has_no_uniform_distribution(manifold):
    with pytest.raises(NotImplementedError, match="no uniform distribution"):
        Uniform(manifold).sample(jax.random.key(0))
    with pytest.raises(NotImplementedError, match="no known volume"):
        Uniform(manifold).log_prob(manifold.origin())


@pytest.mark.parametrize("manifold", [Sphere((3,)), Torus((2,)), SO3()])
def test_what_is_compact_has_no_origin(manifold):
    with pytest.raises(NotImplementedError, match="use a Uniform prior"):
        WrappedNormal(manifold).sample(jax.random.key(0))


def test_a_scale_is_data():
    """Priors that differ in their scale share a program."""
    chex.clear_trace_counter()
    draw = jax.jit(chex.assert_max_traces(lambda prior, key: prior.sample(key), n=1))
    spaces = Product({"h": Hyperboloid(2), "b": Euclidean((3,))})
    stds = (1.0, 0.1, jnp.float32(0.3))
    found = [draw(standard(spaces, jnp.float32(std)), jax.random.key(0))["b"] for std in stds]
    for std, b in zip(stds, found, strict=True):
        np.testing.assert_allclose(b, std * found[0], rtol=1e-6)
