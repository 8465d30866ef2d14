"""Laws of every manifold in the table, in float32, the precision users run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from tests.cases import cases
from tests.manifolds.table import CASES, CUT, MANIFOLDS, OFTEN, Jitted, noise
from wfm.manifolds import Hyperboloid, Manifold

# scope="module" runs all laws of one manifold in a row, so that workers share little compiling
every_manifold = pytest.mark.parametrize("manifold", CASES, scope="module")
every_jitted_manifold = pytest.mark.parametrize(
    "manifold",
    cases({name: Jitted(m) for name, m in MANIFOLDS.items()}, OFTEN),
    scope="module",
)
seeds = st.integers(0, 2**31 - 1)
lengths = st.floats(0, 3, width=32, allow_subnormal=False)


def tangent(manifold, x, seed: int, length: float = 1.0):
    """A tangent vector at `x` of the given length in a random direction."""
    v = manifold.frame(x, noise(x, seed + 100))
    return manifold.to_tangent(x, scale(length / manifold.norm(x, v), v))


def scale(factor, v):
    return jax.tree.map(lambda a: factor * a, v)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def awkward_ends(manifold, x, seed: int):
    """Points at, next to and opposite of `x`, or else at and before the end of where one can go."""
    v = tangent(manifold, x, seed)
    yield x
    for length in (1e-19, 1e-12, 1e-6, 1e-3):
        yield manifold.exp(x, scale(length, v))
    opposite = scale(-1.0, x)  # the antipode, on spheres
    if np.allclose(ravel_pytree(manifold.project(opposite))[0], ravel_pytree(opposite)[0]):
        yield opposite
        for length in (1e-7, 1e-6, 1e-3):
            yield manifold.project(jax.tree.map(lambda a, b, s=length: a + s * b, opposite, v))
    else:
        end = CUT.get(type(manifold.manifold), 3.0)
        for short in (0, 1e-7, 1e-6, 1e-3):
            yield manifold.exp(x, scale((1 - short) * end, v))


def assert_close(actual, expected, tolerance: float = 2e-5):
    """Equal up to `tolerance`, relative to the size of large trees and absolute for small ones."""
    actual, expected = (np.asarray(ravel_pytree(tree)[0]) for tree in (actual, expected))
    atol = tolerance * max(1.0, np.linalg.norm(expected))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@every_jitted_manifold
@given(seed=seeds)
def test_random_points_lie_on_the_manifold(manifold, seed):
    x = manifold.prior.sample(jax.random.key(seed))
    assert_close(manifold.project(x), x, 1e-6)
    assert manifold.off(x) < 1e-5


@every_jitted_manifold
@given(seed=seeds, size=st.sampled_from([1e-6, 1.0, 1e6]))
def test_project_is_idempotent(manifold, seed, size):
    once = manifold.project(noise(manifold.shapes, seed, size))
    assert_close(manifold.project(once), once, 1e-6)


@every_jitted_manifold
def test_to_tangent_and_frame_are_of_rank_dim_and_fit_the_metric(manifold):
    (x,) = manifold.points(0, 1)
    check_tangent_maps(manifold, x)


def check_tangent_maps(manifold, x):
    """P = P², with trace dim; F ends in its range; and F Fᵀ is the inverse of the metric.

    ⟨F Fᵀ e, P w⟩ = e·(P w) for all e and w. Where F = P and the metric is Euclidean that is
    P Pᵀ P = P, which for a projection means that it is orthogonal.
    """
    flat, unravel = ravel_pytree(x)
    basis = jax.vmap(unravel)(jnp.eye(flat.size))
    images = lambda method: jax.vmap(method, (None, 0))(x, basis)  # noqa: E731
    rows = lambda tree: np.asarray(jax.vmap(lambda v: ravel_pytree(v)[0])(tree))  # noqa: E731
    projected = images(manifold.to_tangent)
    matrix = rows(projected).T
    assert_close(matrix @ matrix, matrix)
    np.testing.assert_allclose(np.trace(matrix), manifold.manifold.dim, atol=1e-4)
    frame = rows(images(manifold.frame)).T
    assert_close(matrix @ frame, frame)
    gradients = images(manifold.gradient)
    inner = jax.vmap(jax.vmap(manifold.inner, (None, None, 0)), (None, 0, None))
    assert_close(inner(x, gradients, projected), matrix)


def test_a_metric_without_its_frame_is_caught():
    """A stranger's hyperboloid, complete but for the methods that have a default."""

    class Forgetful(Hyperboloid):
        frame = Manifold.frame

    fast = Jitted(Forgetful(3))
    with pytest.raises(AssertionError):
        check_tangent_maps(fast, fast.prior.sample(jax.random.key(0)))


@every_jitted_manifold
@given(seed=seeds)
def test_exp_undoes_log(manifold, seed):
    x, y = manifold.points(seed, 2)
    for end in (y, *awkward_ends(manifold, x, seed)):
        v = manifold.log(x, end)
        assert_close(manifold.to_tangent(x, v), v)
        assert_close(manifold.exp(x, v), end)


@every_jitted_manifold
@given(seed=seeds, length=lengths)
def test_log_undoes_exp(manifold, seed, length):
    (x,) = manifold.points(seed, 1)
    v = tangent(manifold, x, seed, length)
    y = manifold.exp(x, v)
    assert_close(manifold.project(y), y, 1e-6)
    assert_close(manifold.log(x, y), v, 5e-5)
    assert_close(manifold.dist(x, y), length, 5e-5)


@every_jitted_manifold
@given(seed=seeds)
def test_dist_is_a_metric(manifold, seed):
    x, y, z = manifold.points(seed, 3)
    dist = manifold.dist(x, y)
    assert dist > 0
    assert manifold.dist(x, x) == 0
    assert_close(dist, manifold.norm(x, manifold.log(x, y)))
    assert_close(dist, manifold.dist(y, x))
    assert manifold.dist(x, z) <= dist + manifold.dist(y, z) + 1e-5


@every_jitted_manifold
@given(seed=seeds, t=st.floats(0, 1, width=32, allow_subnormal=False))
def test_geodesics_have_their_end_points_and_constant_speed(manifold, seed, t):
    x, y = manifold.points(seed, 2)
    dist = manifold.dist(x, y)
    middle = manifold.geodesic(x, y, t)
    assert_close(manifold.geodesic(x, y, 0.0), x)
    assert_close(manifold.geodesic(x, y, 1.0), y)
    assert_close(manifold.dist(x, middle), t * dist, 5e-5)
    assert_close(manifold.dist(middle, y), (1 - t) * dist, 5e-5)


@every_jitted_manifold
@given(seed=seeds, length=lengths)
def test_transport_is_an_isometry_along_the_geodesic(manifold, seed, length):
    (x,) = manifold.points(seed, 1)
    step, u, v = (tangent(manifold, x, seed + i, s) for i, s in enumerate((length, 1.0, 2.0)))
    y = manifold.exp(x, step)
    u_at_y, v_at_y = manifold.transport(x, y, u), manifold.transport(x, y, v)
    assert_close(manifold.to_tangent(y, u_at_y), u_at_y)
    assert_close(manifold.inner(y, u_at_y, v_at_y), manifold.inner(x, u, v), 5e-5)
    assert_close(manifold.transport(y, x, u_at_y), u)
    assert_close(manifold.transport(x, y, step), scale(-1.0, manifold.log(y, x)), 5e-5)
    for end in awkward_ends(manifold, x, seed):
        u_at_end, v_at_end = manifold.transport(x, end, u), manifold.transport(x, end, v)
        assert_close(manifold.to_tangent(end, u_at_end), u_at_end)
        assert_close(manifold.inner(end, u_at_end, v_at_end), manifold.inner(x, u, v))


@every_jitted_manifold
def test_small_distances_agree_with_float64(manifold):
    (x,) = manifold.points(0, 1)
    for length in 10.0 ** -np.arange(1, 7):
        y = manifold.exp(x, tangent(manifold, x, 1, length))
        with jax.enable_x64(True):
            exact = manifold.dist(*jax.tree.map(lambda a: a.astype("float64"), (x, y)))
        np.testing.assert_allclose(exact, length, rtol=0.3)  # moved by the rounding of y
        np.testing.assert_allclose(manifold.dist(x, y), exact, rtol=0.01)


@every_manifold
def test_gradients_point_away_and_are_finite_everywhere(manifold):
    def outputs(x, y, v):
        trees = (manifold.log(x, y), manifold.exp(x, v), manifold.transport(x, y, v))
        return manifold.dist(x, y) + ravel_pytree(trees)[0].sum()

    # One sum for all operations: it is finite only where every term is.
    of_outputs = jax.jit(jax.grad(outputs, (0, 1, 2)))
    of_squared_dist = jax.jit(jax.grad(lambda x, y: manifold.dist(x, y) ** 2, (0, 1)))
    fast = Jitted(manifold)
    (x,) = fast.points(0, 1)
    for end in awkward_ends(fast, x, 0):
        for v in (scale(0.0, x), fast.log(x, end)):
            assert np.isfinite(ravel_pytree(of_outputs(x, end, v))[0]).all()
        assert np.isfinite(ravel_pytree(of_squared_dist(x, end))[0]).all()
    for length in (0.0, 1e-3, 1.0, 3.0):
        y = fast.exp(x, tangent(fast, x, 1, length))
        at_x, at_y = of_squared_dist(x, y)
        assert_close(fast.gradient(x, at_x), scale(-2.0, fast.log(x, y)), 1e-4)
        assert_close(fast.gradient(y, at_y), scale(-2.0, fast.log(y, x)), 1e-4)


@every_jitted_manifold
def test_many_steps_stay_on_the_manifold(manifold):
    (x,) = manifold.points(0, 1)
    for i in range(512):
        x = manifold.exp(x, manifold.frame(x, noise(x, i, 0.01)))
    assert_close(manifold.project(x), x, 3e-7)  # as close as after one step


@every_manifold
def test_vmap_equals_one_by_one(manifold):
    prior = Jitted(manifold).prior

    def everything(manifold, x, y, v):
        return {
            "exp": manifold.exp(x, v),
            "log": manifold.log(x, y),
            "norm": manifold.norm(x, v),
            "transport": manifold.transport(x, y, v),
            "project": manifold.project(v),
            "to_tangent": manifold.to_tangent(x, y),
            "frame": manifold.frame(x, y),
            "gradient": manifold.gradient(x, y),
            "log_volume": manifold.log_volume(x),
            "log_prob": prior.log_prob(x),
            "geodesic": manifold.geodesic(x, y, 0.3),
        }

    x, y, v = (stack(Jitted(manifold).points(3 * i, 3)) for i in range(3))
    batched = jax.jit(jax.vmap(everything, (None, 0, 0, 0)))(manifold, x, y, v)
    for i in range(3):
        one = everything(Jitted(manifold), *jax.tree.map(lambda a, i=i: a[i], (x, y, v)))
        one_of_batch = jax.tree.map(lambda a, i=i: a[i], batched)
        assert jax.tree.map(jax.typeof, one_of_batch) == jax.tree.map(jax.typeof, one)
        assert_close(one_of_batch, one)


@every_jitted_manifold
def test_chords_are_a_little_shorter_than_geodesics(manifold):
    try:
        ambient = manifold.manifold.ambient()
    except NotImplementedError:
        pytest.skip("has no ambient coordinates")
    x, y = manifold.points(0, 2)
    chord, dist = ambient.dist(x, y), manifold.dist(x, y)
    difference = ravel_pytree(jax.tree.map(jnp.subtract, y, x))[0]
    np.testing.assert_allclose(chord, np.linalg.norm(difference), rtol=1e-5)
    assert chord * (1 - 1e-5) <= dist <= chord * (np.pi / 2 + 1e-5)
    assert ambient.is_vector_space
    assert manifold.manifold.dim <= ambient.dim <= difference.size


@every_jitted_manifold
def test_distances_of_all_to_all_are_those_of_each_pair(manifold):
    """To 1e-3 of the largest: near points may lose digits."""
    x, y = stack(manifold.points(0, 4)), stack(manifold.points(9, 3))
    found = manifold.squared_distances(x, y)
    one = jax.vmap(lambda a: jax.vmap(lambda b: manifold.manifold.dist(a, b) ** 2)(y))(x)
    np.testing.assert_allclose(found, one, atol=1e-3 * float(one.max()), rtol=1e-4)
