"""Logarithms of variances: lossless, and never negative once they are variances again."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wfm
from tests.weights.table import NETWORKS, canonical, encoded, function, inputs, weights
from tests.weights.traced import NORMS
from wfm.fields import MLPField
from wfm.flows import Integrator
from wfm.weights import (
    AsTrained,
    Group,
    LinearScaling,
    LogVariances,
    WeightSpec,
    align_all,
    barycentre,
    mlp,
    permute,
    random_permutation,
    random_rescaling,
    recalibrate,
    rescale,
    resnet,
    trace,
)

SMALL = NORMS["batch norm"]  # one hidden layer of 8 neurons, whose variances are `v`
X = (5,)
INNER = {"as trained": AsTrained, "canonical": canonical}
inner = pytest.mark.parametrize("inner", INNER.values(), ids=INNER)


@functools.cache
def small():
    return trace(SMALL.apply, SMALL.weights(), SMALL.inputs()[0])


def strange():
    """Variances that are 0, tiny, small and large."""
    return weights(small(), 0) | {"v": jnp.array([0.0, 1e-30, 1e-7, 1e-5, 0.1, 1.0, 10.0, 1e6])}


def stacked(*networks):
    return jax.tree.map(lambda *a: jnp.stack(a), *networks)


def close(a, b, tolerance=1e-5):
    chex.assert_trees_all_close(a, b, rtol=tolerance, atol=tolerance)


@functools.partial(jax.jit, static_argnums=0)
def computed(form, w, x):
    """A point, and what its weights, the point, and the weights of the point compute."""
    point = form.encode(w)
    back = function(form.network, form.decode(point), x)
    return point, (function(form.network, w, x), function(form.spec, point, x), back)


def check_lossless(form, w, x):
    form.check(stacked(w, w))
    point, (before, *after) = computed(form, w, x)
    form.spec.check(point)
    close(form.manifold().project(point), point)
    assert np.ptp(before) > 1
    for found in after:
        close(found, before, 1e-4)


@inner
def test_nothing_is_lost(inner):
    form = LogVariances(inner(small()))
    check_lossless(form, strange(), inputs(X))
    assert form.symmetries_left() == form.form.symmetries_left()


@pytest.mark.slow
@inner
def test_nothing_is_lost_of_a_residual_network(inner):
    spec, shape = NETWORKS["resnet"]
    w = weights(spec, 0) | {"stem.norm.variance": jnp.array([0.0, 1e6])}
    check_lossless(LogVariances(inner(spec)), w, inputs(shape))


def test_coordinates_are_logarithms_and_all_else_is_as_it_was():
    form, w = LogVariances(AsTrained(small())), strange()
    point = encoded(form, w)
    expected = np.log(np.asarray(w["v"], np.float64) + 1e-5)
    np.testing.assert_allclose(point["v"], expected, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(point | {"v": w["v"]}, w)
    half = jax.tree.map(lambda a: a.astype("bfloat16"), w)
    single = jax.tree.map(lambda a: a.astype("float32"), half)
    chex.assert_trees_all_equal(form.encode(half), form.encode(single))


@inner
def test_every_point_has_variances(inner):
    form = LogVariances(inner(small()))
    u = jnp.array([-1e4, -11.6, -11.512926, -11.51292, -3.0, 0.0, 9.0, 80.0])
    found = form.decode(encoded(form, strange()) | {"v": u})["v"]
    expected = np.maximum(np.exp(np.asarray(u, np.float64)) - 1e-5, 0)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-10)
    draw = lambda key: form.decode(form.prior(9.0).sample(key))["v"]  # noqa: E731
    assert (jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 9)) >= 0).all()


@inner
def test_points_are_permuted_as_their_weights_are(inner):
    form, w = LogVariances(inner(small())), strange()
    order = random_permutation(small(), jax.random.key(1))
    moved = permute(form.spec, order, encoded(form, w))
    close(encoded(form, permute(small(), order, w)), moved)
    assert (moved["v"] != encoded(form, w)["v"]).any()


def test_points_are_rescaled_as_their_weights_are():
    form, w = LogVariances(AsTrained(small())), strange()
    factors = random_rescaling(small(), jax.random.key(1))
    close(
        encoded(form, rescale(small(), factors, w)), rescale(form.spec, factors, encoded(form, w))
    )


def test_networks_without_variances_keep_their_points():
    spec = mlp(4, 5, 3)
    w, form = weights(spec, 0), LogVariances(AsTrained(spec))
    chex.assert_trees_all_equal(form.encode(w), w)
    close(form.spec.outputs(w, inputs((4,))), spec.outputs(w, inputs((4,))))


def exact():
    """BatchNorm that adds nothing to its variance, which is multiplied by squares of factors."""
    groups = {"in": Group(2, False), "h": Group(3, scaling=LinearScaling()), "out": Group(2, False)}
    arrays = {"k": ("in", "h"), "v": ("h",), "o": ("h", "out")}
    return WeightSpec(groups, arrays, lambda w, x: {}, {"v": {"h": 2}})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: LogVariances(LogVariances(AsTrained(small()))),
            "logarithms of variances already",
        ),
        (
            lambda: LogVariances(AsTrained(exact())),
            "neurons of 'h' multiplies the variances 'v' by the power 2 of their factors",
        ),
    ],
)
def test_forms_that_would_be_wrong_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@inner
@pytest.mark.parametrize("value", [-1e-3, np.nan, np.inf])
def test_what_is_no_variance_is_named(inner, value):
    bad = strange() | {"v": strange()["v"].at[3].set(value)}
    with pytest.raises(ValueError, match=f"network 1 has the variance {value:.3g} in 'v'"):
        LogVariances(inner(small())).check(stacked(strange(), bad))


def drawn_by_a_flow(form, field):
    """Weights that a flow draws after a few steps on six aligned networks."""
    networks = stacked(*(weights(form.network, seed) for seed in range(6)))
    form.check(networks)
    points = form.encode_all(networks)
    points, _ = align_all(form.spec, barycentre(form.spec, points), points)
    matching = wfm.FlowMatching(form.manifold())
    flow, losses = wfm.learn(matching, field, points, jax.random.key(1), steps=3)
    assert np.isfinite(losses).all()
    draw = lambda key: form.decode(flow.sample(key, Integrator(8)))  # noqa: E731
    return jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(2), 4))


def small_mlp(form):
    like = jax.tree.map(jnp.zeros_like, form.encode(weights(form.network, 0)))
    return MLPField(like, width=4, depth=1, rngs=wfm.Rngs(0))


RESNET = resnet(8, width=4)
VARIANCES = [name for name in RESNET.arrays if name.endswith("variance")]
IMAGES = (8, 8, 3)


@jax.jit
@jax.vmap
def outputs_of(w):
    return RESNET.outputs(w, inputs(IMAGES, 6))


@jax.jit
@jax.vmap
def recalibrated(w):
    return recalibrate(RESNET, w, inputs(IMAGES, 6))


@pytest.mark.slow
def test_flows_over_logarithms_draw_networks_with_batch_norm():
    form = LogVariances(AsTrained(RESNET))
    drawn = drawn_by_a_flow(form, small_mlp(form))
    better = recalibrated(drawn)
    for w in (drawn, better):
        assert all((w[name] >= 0).all() for name in VARIANCES)
        assert jnp.isfinite(outputs_of(w)).all()
    assert all((better[name] != drawn[name]).any() for name in VARIANCES)


@pytest.mark.slow
def test_flows_over_weights_as_trained_draw_negative_variances():
    form = AsTrained(RESNET)
    drawn = drawn_by_a_flow(form, small_mlp(form))
    assert any((drawn[name] < 0).any() for name in VARIANCES)
    assert jnp.isnan(outputs_of(drawn)).any()


@pytest.mark.slow
def test_equivariant_fields_over_logarithms():
    form = LogVariances(canonical(small()))
    field = wfm.RelationalTransformer(form.spec, width=4, depth=1, rngs=wfm.Rngs(0))
    drawn = drawn_by_a_flow(form, field)
    assert (drawn["v"] >= 0).all()
    assert jnp.isfinite(jax.vmap(lambda w: small().outputs(w, inputs(X)))(drawn)).all()
