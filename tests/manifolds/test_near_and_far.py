"""Float32 where it is hardest: near, far and degenerate points, tiny and huge numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.manifolds.table import Jitted, noise
from wfm.manifolds import SO3, SPD, Euclidean, Hyperboloid, PoincareBall, Product, Sphere
from wfm.manifolds.base import safe_norm
from wfm.manifolds.spectral import log1p
from wfm.priors import WrappedNormal, standard

pytestmark = pytest.mark.optimised
SEPARATIONS = 10.0 ** -np.arange(7)
NEAR = {
    "sphere_784": Sphere((785,), radius=2.0),
    "columns": Sphere((30, 4), axes=0),
    "circles": Sphere((2, 3), axes=0),
    "product": Product({"a": Sphere((30, 4), axes=0), "b": Euclidean((5,))}),
    "hyperboloid": Hyperboloid(3),
}


FAR_FROM_0 = WrappedNormal(Euclidean((40,)), mean=3.0)
PRIORS = {name: (m, standard(m)) for name, m in NEAR.items()}
PRIORS["flat"] = (FAR_FROM_0.manifold, FAR_FROM_0)


@pytest.mark.parametrize(("manifold", "prior"), PRIORS.values(), ids=PRIORS)
def test_squared_distances_keep_their_digits(manifold, prior):
    """To 0.1%, from one part in a million on, and 0 for copies; no pair spoils another."""
    fast = Jitted(manifold)
    x = prior.sample(jax.random.key(0))
    v = fast.to_tangent(x, prior.sample(jax.random.key(1)))
    v = jax.tree.map(lambda a: a / fast.norm(x, v), v)
    ends = [fast.exp(x, jax.tree.map(lambda a, s=s: s * a, v)) for s in SEPARATIONS]
    points = jax.tree.map(lambda *a: jnp.stack(a), x, *ends, prior.sample(jax.random.key(2)))
    found = np.asarray(fast.squared_distances(points, points))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: a.astype("float64"), points)
        one = jax.vmap(jax.vmap(lambda a, b: manifold.dist(a, b) ** 2, (None, 0)), (0, None))
        exact = np.asarray(jax.jit(one)(wide, wide))
    assert (np.diagonal(found) == 0).all()
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-18)


@pytest.mark.parametrize("manifold", [Sphere((785,)), Euclidean((785,))])
def test_squared_distances_can_be_differentiated_at_copies(manifold):
    x = standard(manifold).sample(jax.random.key(0))[None]
    gradient = jax.grad(lambda x, y: manifold.squared_distances(x, y).sum())(x, x)
    assert (gradient == 0).all()


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
@pytest.mark.parametrize("manifold", [Sphere((4,)), Sphere((3, 2), axes=0, radius=2.0), SO3()])
def test_projections_and_norms_of_tiny_and_huge_numbers(manifold, size):
    fast = Jitted(manifold)
    x = jnp.asarray(np.random.default_rng(0).normal(size=fast.shapes.shape), "float32")
    np.testing.assert_allclose(fast.project(size * x), fast.project(x), atol=1e-5)
    length = size * np.linalg.norm(x)
    np.testing.assert_allclose(safe_norm(size * x).squeeze(), length, rtol=1e-5)
    np.testing.assert_allclose(Euclidean(x.shape).dist(0 * x, size * x), length, rtol=1e-5)


@pytest.mark.parametrize(
    "manifold",
    [Sphere((4,)), Sphere((3, 2), axes=0), SO3(), SPD(2), Hyperboloid(3), PoincareBall(2)],
)
def test_project_of_nothing_is_one_point(manifold):
    fast = Jitted(manifold)
    zero = jnp.zeros(fast.shapes.shape)
    point = fast.project(zero)
    np.testing.assert_allclose(fast.project(point), point, atol=1e-6)
    assert np.isfinite(fast.log(point, fast.prior.sample(jax.random.key(0)))).all()


@pytest.mark.parametrize("radius", [0.3, 1.0, 7.0])
def test_a_point_off_its_sphere_counts_as_its_projection(radius):
    """Whatever the rounding: a dead neuron's column of zeros has one distance."""
    fast = Jitted(Sphere((3, 2), axes=0, radius=radius))
    x, y = fast.points(0, 2)
    for scale in (0.5, 10.0, jnp.array([[1.0, 3.0]])):
        np.testing.assert_allclose(fast.dist(x, scale * y), fast.dist(x, y), rtol=1e-5)
        np.testing.assert_allclose(fast.dist(scale * y, x), fast.dist(x, y), rtol=1e-5)
    dead = y.at[:, 0].set(0)
    expected = fast.dist(x, fast.project(dead))
    np.testing.assert_allclose(fast.dist(x, dead), expected, rtol=1e-5)
    many = fast.squared_distances(x[None], dead[None])
    np.testing.assert_allclose(many[0, 0], expected**2, rtol=1e-4)


@pytest.mark.parametrize("manifold", [Hyperboloid(3), PoincareBall(3)])
def test_far_points_agree_with_float64(manifold):
    """A distance of three, from a distance of three."""
    fast = Jitted(manifold)

    def step(x, seed):
        v = fast.frame(x, noise(x, seed))
        return fast.exp(x, v * (3 / fast.norm(x, v)))

    def results(x, y, v):
        return {
            "dist": manifold.dist(x, y),
            "log": manifold.log(x, y),
            "transport": manifold.transport(x, y, v),
            "inner": manifold.inner(x, v, v),
        }

    x = step(fast.project(jnp.zeros(fast.shapes.shape)), 0)
    y, v = step(x, 1), fast.frame(x, noise(x, 2))
    found = jax.jit(results)(x, y, v)
    with jax.enable_x64(True):
        exact = jax.jit(results)(*(a.astype("float64") for a in (x, y, v)))
    for name, value in exact.items():
        atol = 3e-5 * np.abs(value).max()
        np.testing.assert_allclose(found[name], value, atol=atol, err_msg=name)


@pytest.mark.parametrize("make", [Hyperboloid, PoincareBall, SPD])
@pytest.mark.parametrize("n", [0, -1, 2.0])
def test_a_number_of_dimensions_is_a_positive_integer(make, n, as_in_use):
    with pytest.raises(ValueError, match="positive integer"):
        make(n)


@pytest.mark.parametrize("manifold", [Hyperboloid(2), PoincareBall(2), SPD(2)])
def test_curved_coordinates_have_no_flat_space(manifold):
    with pytest.raises(NotImplementedError, match="use its geodesics"):
        manifold.ambient()


@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("inner", [jax.jacfwd, jax.jacrev])
def test_matrix_logarithms_have_second_derivatives_at_repeated_eigenvalues(outer, inner):
    """log(1 + λ + s b) is log(1 + λ) + s b/(1 + λ) - s² b²/2(1 + λ)² + … for a number λ."""
    b, size = jax.random.normal(jax.random.key(0), (3, 3)), 0.7
    b = b + b.T
    at = lambda s: log1p((size - 1) * jnp.eye(3) + s * b)  # noqa: E731
    np.testing.assert_allclose(outer(inner(at))(0.0), -b @ b / size**2, rtol=1e-4, atol=1e-4)
