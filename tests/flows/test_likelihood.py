"""Densities of flows: closed forms, quadrature, estimates within their error, trained flows."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.manifolds.table import CASES, MANIFOLDS, Jitted
from wfm.draws import normal_like
from wfm.fields import MLPField
from wfm.flows import (
    Exact,
    Flow,
    FlowMatching,
    Hutchinson,
    Integrator,
    VelocityPrediction,
    X1Prediction,
    denser_late,
    euler,
    midpoint,
    rk4,
    tsit5,
)
from wfm.manifolds import Euclidean, Hyperboloid, Manifold, PoincareBall, Product, Sphere
from wfm.priors import Pushforward, WrappedNormal, standard
from wfm.training import learn

KEY = jax.random.key(0)
S2 = Sphere((3,))
POLE = jnp.array([0.0, 0.0, 1.0])


def to_pole(rate):
    """v = rate · (e - (e·x) x): points gather at the pole as tan(φ/2) shrinks by exp(-rate)."""
    return lambda t, x: rate * POLE


def log_prob_at_pole(rate, x):
    """Log-density of uniform points after unit time: push-forward under a dilation of the plane.

    By stereographic projection r = tan(φ/2) goes to r e^{-rate}; the Jacobian of areas is
    (sin φ₀ dφ₀) / (sin φ dφ).
    """
    half = np.arccos(np.clip(x[2], -1, 1)) / 2
    r0 = np.tan(half) * np.exp(rate)
    phi0 = 2 * np.arctan(r0)
    stretch = np.sin(phi0) / np.sin(2 * half)  # dφ₀/dφ is the same ratio
    return -np.log(4 * np.pi) + 2 * np.log(stretch)


@pytest.mark.parametrize("solver", [euler, midpoint, rk4, tsit5])
def test_gaussian_to_gaussian(solver):
    """x' = a (x - c) leads N(m, s²) to N(c + (m - c) eᵃ, s² e²ᵃ)."""
    space = Product({"x": Euclidean((3,))})
    prior = WrappedNormal(space, 0.5, 1.0)
    a, c = 0.8, -0.5
    flow = Flow(space, lambda t, x: {"x": a * (x["x"] - c)}, None, prior, VelocityPrediction())
    x = jnp.array([0.3, 2.0, 4.0])
    steps = 1000 if solver is euler else 32
    found = jax.jit(lambda x: flow.log_prob({"x": x}, Integrator(steps, solver)))(x)
    exact = jax.scipy.stats.norm.logpdf(x, c + (1 - c) * np.exp(a), 0.5 * np.exp(a)).sum()
    assert abs(found - exact) < (2e-2 if solver is euler else 2e-4)


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_gathering_on_the_sphere_has_its_closed_form_and_total_mass_1(rate):
    flow = Flow(S2, to_pole(rate), prediction=VelocityPrediction())
    how = Integrator(32, rk4)
    log_prob = jax.jit(jax.vmap(lambda x: flow.log_prob(x, how)))
    points, weights = sphere_quadrature(24, 48)
    found = log_prob(points)
    np.testing.assert_allclose(
        found, [log_prob_at_pole(rate, x) for x in np.asarray(points)], atol=2e-3
    )
    assert abs((weights * jnp.exp(found)).sum() - 1) < 1e-3


def test_a_von_mises_fisher_flow_agrees_with_quadrature():
    """A flow along p_t ∝ exp(κ t e·x): v = f(t, z) ∇z/(1-z²) with f the flux by quadrature in z."""
    kappa = 3.0
    z_nodes, z_weights = (jnp.array(a) for a in np.polynomial.legendre.leggauss(200))

    def density(t, z):
        normal = (jnp.exp(kappa * t * z_nodes) * z_weights).sum()
        return jnp.exp(kappa * t * z) / normal  # of the height

    def below(t, z):
        """Share of the mass below height z."""
        nodes = (z + 1) / 2 * z_nodes + (z - 1) / 2
        return (density(t, nodes) * z_weights).sum() * (z + 1) / 2

    def field(t, x):
        z = jnp.clip(x[2], -1 + 1e-4, 1 - 1e-4)
        flux = -jax.jvp(lambda t: below(t, z), (t,), (jnp.ones_like(t),))[1]
        return flux / density(t, z) / (1 - z**2) * POLE  # ∇z = e - z x has squared length 1 - z²

    flow = Flow(S2, field, prediction=VelocityPrediction())
    points, _ = sphere_quadrature(12, 4)
    how = Integrator(24, rk4)
    found = jax.jit(jax.vmap(lambda x: flow.log_prob(x, how)))(points)
    exact = kappa * points[:, 2] + np.log(kappa / (4 * np.pi * np.sinh(kappa)))
    np.testing.assert_allclose(found, exact, atol=2e-3)


def sphere_quadrature(n_heights, n_angles):
    """Points of S² and weights that integrate over it."""
    z, w = np.polynomial.legendre.leggauss(n_heights)
    angle = 2 * np.pi * np.arange(n_angles) / n_angles
    z, angle = (a.ravel() for a in np.meshgrid(z, angle, indexing="ij"))
    r = np.sqrt(1 - z**2)
    points = np.stack([r * np.cos(angle), r * np.sin(angle), z], 1).astype(np.float32)
    return jnp.array(points), jnp.array(np.repeat(w, n_angles) * 2 * np.pi / n_angles)


def wavy(manifold):
    """A tangent field without any symmetry."""
    return lambda t, x: manifold.to_tangent(
        x, jax.tree.map(lambda a: jnp.sin(2 * a + 0.3 * jnp.roll(a, 1)), x)
    )


def divergence_by_geodesics(manifold, velocity, x):
    """Σₐ d/dh ⟨Eₐ, (d log_x) v(exp_x(h Eₐ))⟩: in normal coordinates the volume is flat at `x`.

    By finite differences in float64, from `exp`, `log` and `inner` alone. The basis Eₐ is
    orthonormal by the manifold's own metric.
    """
    h = 3e-4
    flat, unravel = jax.flatten_util.ravel_pytree(x)
    ravel = lambda v: jax.flatten_util.ravel_pytree(v)[0]  # noqa: E731
    scale = lambda c, v: jax.tree.map(lambda a: c * a, v)  # noqa: E731
    tangent = lambda e: ravel(manifold.to_tangent(x, unravel(e)))  # noqa: E731
    tangents = jax.jit(jax.vmap(tangent))(jnp.eye(flat.size))
    inner = lambda a, b: manifold.inner(x, unravel(a), unravel(b))  # noqa: E731
    gram = jax.jit(jax.vmap(jax.vmap(inner, (None, 0)), (0, None)))(tangents, tangents)
    values, vectors = np.linalg.eigh(np.asarray(gram))
    large = values > 1e-9 * values.max()
    assert large.sum() == manifold.dim
    basis = (vectors[:, large] / np.sqrt(values[large])).T @ tangents

    def component(e, step):
        """Of the field at exp_x(step e), pulled back to `x`, along `e`."""
        y = manifold.exp(x, unravel(step * e))
        v = velocity(0.0, y)
        ends = [ravel(manifold.log(x, manifold.exp(y, scale(s * h, v)))) for s in (1, -1)]
        return inner(e, (ends[0] - ends[1]) / (2 * h))

    slope = lambda e: (component(e, h) - component(e, -h)) / (2 * h)  # noqa: E731
    return float(jax.jit(jax.vmap(slope))(basis).sum())


@jax.jit
def _drawn(manifold):
    return standard(manifold).sample(KEY)


def check_divergence(manifold, velocity, x):
    with jax.enable_x64(True):
        expected = divergence_by_geodesics(
            manifold, velocity, Jitted(manifold).project(jax.tree.map(lambda a: a.astype(float), x))
        )
    _, found = jax.jit(lambda x: Exact()(manifold, velocity, jnp.float32(0), x, None))(x)
    assert abs(found - expected) < 1e-4 * (1 + abs(expected))


@pytest.mark.parametrize("manifold", CASES)
def test_divergence_is_that_of_normal_coordinates(manifold):
    if manifold is MANIFOLDS["nested"]:
        pytest.skip("has parts without entries, which no basis reaches")
    check_divergence(manifold, wavy(manifold), _drawn(manifold))


@pytest.mark.slow
def test_a_metric_without_its_frame_or_volume_is_caught():
    class Frameless(Hyperboloid):
        frame = Manifold.frame

    class Flat(PoincareBall):
        log_volume = Manifold.log_volume

    for stranger in (Frameless(2), Flat(2)):
        with pytest.raises(AssertionError):
            check_divergence(stranger, wavy(stranger), _drawn(stranger))


HYPERBOLIC = {"hyperboloid": Hyperboloid(3), "poincare_ball": PoincareBall(3)}


@pytest.mark.parametrize("manifold", HYPERBOLIC.values(), ids=HYPERBOLIC)
@pytest.mark.parametrize("size", [0.5, 1.5])
def test_divergence_of_contraction_in_hyperbolic_space(manifold, size):
    """v = log_x(o) has divergence -1 - (n-1) r coth r at distance r from o (half the Laplacian
    of -r²)."""

    @jax.jit
    def divergence():
        o = manifold.origin()
        a = manifold.frame(o, jnp.arange(o.size, dtype=float))
        x = manifold.exp(o, a * (size / manifold.norm(o, a)))
        return Exact()(manifold, lambda t, x: manifold.log(x, o), jnp.float32(0), x, None)[1]

    found = divergence()
    np.testing.assert_allclose(found, -1 - 2 * size / np.tanh(size), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("curved", [False, True])
def test_hutchinson_agrees_with_exact_within_its_standard_error(gaussian, curved):
    m = Product({"w": Sphere((6, 4), axes=0), "b": Euclidean((4,))})
    mix = jax.random.normal(KEY, (4, 4))
    field = lambda t, x: {"w": jnp.sin(x["w"] @ mix + t), "b": x["w"].sum(0) - x["b"] ** 2}  # noqa: E731
    space = m if curved else m.ambient()
    flow = Flow(space, field, prior=standard(space, 0.5), prediction=VelocityPrediction())
    x = standard(m, 0.5).sample(jax.random.key(1))
    how = Integrator(8, midpoint)
    exact = jax.jit(lambda x: flow.log_prob(x, how))(x)
    estimate = lambda key: flow.log_prob(x, how, Hutchinson(2, gaussian), key)  # noqa: E731
    found = jax.jit(jax.vmap(estimate))(jax.random.split(KEY, 400))
    assert found.std() > 0
    assert abs(found.mean() - exact) < 4 * found.std() / 400**0.5


@pytest.mark.slow
@pytest.mark.parametrize("prediction", [VelocityPrediction(), X1Prediction()])
@pytest.mark.parametrize("divergence", [Exact(), Hutchinson(4)])
def test_forward_and_backward_agree(prediction, divergence):
    m = Product({"s": S2, "b": Euclidean((2,))})
    lands = prediction.lands

    def field(t, x):
        move = {"s": x["s"][::-1] + t * POLE, "b": jnp.tanh(x["b"]) + x["s"][:2]}
        end = jax.tree.map(lambda a, v: a + (1 - t) * v, x, move)
        return end if lands else move

    flow = Flow(m, field, prior=standard(m, 0.5), prediction=prediction)
    # A sample has landed, and the flow's density is that before: a short last interval.
    how = Integrator(128, rk4, denser_late) if lands else Integrator(64, rk4)
    key = jax.random.key(3)
    x, forward = jax.jit(lambda k: flow.sample_with_log_prob(k, how, divergence))(key)
    probes = jax.random.fold_in(key, 1)
    backward = jax.jit(lambda x: flow.log_prob(x, how, divergence, probes))(x)
    assert abs(forward - backward) < 2e-3
    assert m.dist(x, jax.jit(lambda k: flow.sample(k, how))(key)) < 1e-5


def test_adaptive_steps_give_the_density_too():
    flow = Flow(S2, to_pole(1.0), prediction=VelocityPrediction())
    control = diffrax.PIDController(rtol=1e-5, atol=1e-6)
    x = jnp.array([0.6, 0.0, 0.8])
    how = Integrator(1, tsit5, controller=control)
    found = jax.jit(lambda x: flow.log_prob(x, how))(x)
    assert abs(found - log_prob_at_pole(1.0, np.asarray(x))) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("space", [S2, Euclidean((2,))], ids=["sphere", "plane"])
def test_the_density_of_a_trained_flow_integrates_to_1_and_is_that_of_its_samples(space):
    def draw(key):
        which, noise = jax.random.split(key)
        centre = jnp.where(jax.random.uniform(which) < 0.7, 1.0, -1.0) * jnp.ones(space.shape)
        centre = space.project(centre.at[0].set(0.5))
        step = space.to_tangent(centre, normal_like(noise, centre))
        return space.exp(centre, 0.35 * step)

    data = jax.vmap(draw)(jax.random.split(KEY, 4000))
    matching = FlowMatching(space, prediction=VelocityPrediction())
    module = MLPField(data[0], width=32, depth=2, rngs=nnx.Rngs(0))
    flow, _ = learn(matching, module, data, KEY, steps=600, batch_size=256)
    how = Integrator(16, rk4)
    if space is S2:
        points, weights = sphere_quadrature(40, 80)
    else:
        line = np.linspace(-5, 5, 91)
        points = jnp.array(list(itertools.product(line, line)), jnp.float32)
        weights = (line[1] - line[0]) ** 2
    log_prob = jax.jit(jax.vmap(lambda x: flow.log_prob(x, how)))
    density = jnp.exp(log_prob(points))
    assert abs((weights * density).sum() - 1) < 0.01
    # The share of samples in a half agrees with the density's.
    samples = jax.jit(jax.vmap(lambda k: flow.sample(k, how)))(jax.random.split(KEY, 4000))
    for inside in (lambda x: x[:, 1] > 0, lambda x: (x[:, 0] > 0.2) & (x[:, 1] > 0.5)):
        share = (weights * density * inside(points)).sum()
        error = float(share * (1 - share) / 4000) ** 0.5
        assert abs(inside(samples).mean() - share) < 4 * error + 0.01
    assert log_prob(data[:500]).mean() > log_prob(points).mean()


def test_densities_that_do_not_exist_are_refused():
    m = Product({"w": Sphere((5, 4), axes=0), "b": Euclidean((4,))})
    field = lambda t, x: x  # noqa: E731
    x = standard(m).sample(KEY)
    with pytest.raises(ValueError, match="projected from 24 dimensions to 20"):
        Flow(m.ambient(), field, target=m).log_prob(x)
    moved = Pushforward(standard(m), lambda x: x)
    with pytest.raises(NotImplementedError, match="no known density"):
        Flow(m, field, prior=moved).log_prob(x)
    with pytest.raises(ValueError, match="give a key"):
        Flow(m, field).log_prob(x, divergence=Hutchinson())
    with pytest.raises(ValueError, match="at least 1 probe"):
        Hutchinson(0)
