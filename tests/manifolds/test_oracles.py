"""Manifolds against independent implementations, in float64 where they are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm, fractional_matrix_power, logm
from scipy.spatial.transform import Rotation

from tests.manifolds.table import Jitted, noise
from wfm.manifolds import SO3, SPD, Hyperboloid, PoincareBall, Sphere, Torus
from wfm.priors import standard

SPHERES = {
    "circle": Sphere((2,)),
    "sphere": Sphere((3,)),
    "whole_array": Sphere((4, 3), radius=2**0.5),
    "columns": Sphere((5, 3), axes=0),
    "conv": Sphere((3, 3, 2, 4), axes=(0, -2, 1), radius=3.0),
    "one_column": Sphere((5, 1), axes=0),
}
every_sphere = pytest.mark.parametrize("manifold", SPHERES.values(), ids=SPHERES.keys())


def to_rows(manifold: Sphere, a) -> np.ndarray:
    """Unit spheres as the rows of a float64 matrix."""
    n = int(np.prod([manifold.shape[i] for i in manifold.axes]))
    a = np.moveaxis(np.asarray(a, "float64"), manifold.axes, range(-len(manifold.axes), 0))
    return a.reshape(a.size // n, n) / manifold.radius


def draw(manifold: Sphere):
    """Two points and two tangent vectors at the first, the latter shorter than π."""
    rng, fast = np.random.default_rng(0), Jitted(manifold)
    x, y, u, v = (jnp.asarray(rng.normal(size=manifold.shape)) for _ in range(4))
    x, y = fast.project(x), fast.project(y)
    return x, y, fast.to_tangent(x, u), fast.to_tangent(x, v / 2)


@every_sphere
def test_geoopt(manifold):
    reason = "torch and geoopt are not installed: pip install -e '.[bench]'"
    torch = pytest.importorskip("torch", reason=reason)
    theirs = pytest.importorskip("geoopt", reason=reason).Sphere()
    with jax.enable_x64(True):
        ours = Jitted(manifold)
        x, y, u, v = draw(manifold)
        results = {
            "expmap": ours.exp(x, v),
            "logmap": ours.log(x, y),
            "projx": ours.project(u),
            "proju": ours.to_tangent(y, u),
        }
        dist, inner = ours.dist(x, y), ours.inner(x, u, v)
    x, y, u, v = (torch.from_numpy(to_rows(manifold, a)) for a in (x, y, u, v))
    arguments = {"expmap": (x, v), "logmap": (x, y), "projx": (u,), "proju": (y, u)}
    for name, result in results.items():
        expected = getattr(theirs, name)(*arguments[name])
        np.testing.assert_allclose(to_rows(manifold, result), expected, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(dist, manifold.radius * theirs.dist(x, y).norm(), rtol=1e-6)
    np.testing.assert_allclose(inner, manifold.radius**2 * theirs.inner(x, u, v).sum())


@every_sphere
def test_geodesics_and_transport_are_rotations(manifold):
    """geoopt's transport is a projection, so the parallel one is compared with a rotation."""
    with jax.enable_x64(True):
        x, _, u, v = draw(manifold)
        y = Jitted(manifold).exp(x, v)
        moved = Jitted(manifold).transport(x, y, u)
    rows = [to_rows(manifold, a) for a in (x, y, u, v, moved)]
    assert (np.linalg.norm(rows[3], axis=1) < np.pi).all()  # the geodesic is the shortest
    for x, y, u, v, moved in zip(*rows, strict=True):
        rotation = expm(np.outer(v, x) - np.outer(x, v))
        np.testing.assert_allclose(rotation @ x, y, atol=1e-9)
        np.testing.assert_allclose(rotation @ u, moved, atol=1e-9)


@every_sphere
def test_float32_distances_are_chords(manifold):
    x, _, u, _ = draw(manifold)
    for length in (3.0, 1.0, *(10.0**-k for k in range(1, 7))):
        y = Jitted(manifold).exp(x, length / np.linalg.norm(u) * u)
        rows = (to_rows(manifold, a) for a in (x, y))
        start, end = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in rows)
        angles = 2 * np.arcsin(np.linalg.norm(end - start, axis=1) / 2)
        expected = manifold.radius * np.linalg.norm(angles)
        np.testing.assert_allclose(Jitted(manifold).dist(x, y), expected, rtol=0.01)


@every_sphere
def test_log_and_dist_at_the_antipode(manifold):
    x, *_ = draw(manifold)
    angles = np.linalg.norm(to_rows(manifold, Jitted(manifold).log(x, -x)), axis=1)
    np.testing.assert_allclose(angles, np.pi, rtol=1e-6)


def test_torus_takes_the_short_way_round():
    x, y = np.random.default_rng(0).uniform(-np.pi, np.pi, (2, 50)).astype("float32")
    x[0], y[0] = -3.0, 3.0
    v = Torus((50,)).log(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(v, np.angle(np.exp(1j * (y - x).astype("float64"))), atol=1e-5)
    assert v[0] == pytest.approx(6 - 2 * np.pi, abs=1e-5)


def draw_by_frame(manifold):
    """Two points and two tangent vectors at the first, in float64."""
    fast = Jitted(manifold)
    x, y = (standard(manifold, 0.6).sample(jax.random.key(i)).astype(float) for i in range(2))
    u, v = (fast.frame(x, noise(x, i)) for i in (2, 3))
    return fast, fast.project(x), fast.project(y), u, v


GEOOPT = {
    "Lorentz": Hyperboloid(3),
    "PoincareBall": PoincareBall(3),
    "SymmetricPositiveDefinite": SPD(3),
}


@pytest.mark.parametrize(("name", "manifold"), GEOOPT.items(), ids=GEOOPT)
def test_curved_metrics_as_in_geoopt(name, manifold):
    reason = "torch and geoopt are not installed: pip install -e '.[bench]'"
    torch = pytest.importorskip("torch", reason=reason)
    theirs = getattr(pytest.importorskip("geoopt", reason=reason), name)()
    with jax.enable_x64(True):
        ours, x, y, u, v = draw_by_frame(manifold)
        results = {
            "expmap": ours.exp(x, v),
            "logmap": ours.log(x, y),
            "transp": ours.transport(x, y, u),
            "dist": ours.dist(x, y),
            "inner": ours.inner(x, u, v),
            "egrad2rgrad": ours.gradient(x, u),
        }
    x, y, u, v = (torch.from_numpy(np.array(a)) for a in (x, y, u, v))
    arguments = {
        "expmap": (x, v),
        "logmap": (x, y),
        "transp": (x, y, u),
        "dist": (x, y),
        "inner": (x, u, v),
        "egrad2rgrad": (x, u),
    }
    for method, result in results.items():
        expected = np.squeeze(getattr(theirs, method)(*arguments[method]).numpy())
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6, err_msg=method)


def test_matrix_geodesics_as_in_scipy():
    with jax.enable_x64(True):
        ours, x, y, u, v = draw_by_frame(SPD(3))
        found = [ours.exp(x, v), ours.log(x, y), ours.transport(x, y, u), ours.dist(x, y)]
    x, y, u, v = (np.asarray(a) for a in (x, y, u, v))
    inverse = np.linalg.inv(x)
    move = fractional_matrix_power(y @ inverse, 0.5)
    log = logm(inverse @ y)
    expected = [x @ expm(inverse @ v), x @ log, move @ u @ move.T, np.sqrt(np.trace(log @ log))]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 1.0, 3.0, np.pi - 1e-6])
def test_rotations_as_in_scipy(angle):
    with jax.enable_x64(True):
        ours, x, _, u, v = draw_by_frame(SO3())
        v = v * (2**0.5 * angle / ours.norm(x, v))
        y = ours.exp(x, v)
        found, moved, noisy = ours.log(x, y), ours.transport(x, y, u), ours.project(x + 0.3 * u)
    x, u, v, y = (np.asarray(a) for a in (x, u, v, y))
    np.testing.assert_allclose(y, x @ expm(x.T @ v), atol=1e-12)
    change = Rotation.from_matrix(x.T @ y)
    assert change.magnitude() == pytest.approx(angle, abs=1e-8)
    vector = change.as_rotvec()
    skew = np.cross(np.eye(3), vector)
    np.testing.assert_allclose(x.T @ found, skew, atol=1e-6)  # of float32
    half = expm(x.T @ v / 2)
    np.testing.assert_allclose(moved, x @ half @ (x.T @ u) @ half, atol=1e-12)
    left, _, right = np.linalg.svd(x + 0.3 * u)
    nearest = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    np.testing.assert_allclose(noisy, nearest, atol=1e-12)
