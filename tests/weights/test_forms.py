"""Canonical forms of strange networks: dead, tiny, huge, narrow, tied, shifted, half precise."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights.table import NETWORKS, canonical, encoded, function, inputs, outputs, weights
from wfm.flows import FlowMatching, X1Prediction
from wfm.weights import (
    AsTrained,
    Canonical,
    mlp,
    permute,
    random_rescaling,
    rescale,
    residual_mlp,
)

SPEC = mlp(4, 8, 3)
FORM = canonical(SPEC)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype(np.float32)
W = {name: RNG.normal(0, 0.5, SPEC.shape(name)).astype(np.float32) for name in SPEC.arrays}
K1, B1, K2, B2 = SPEC.arrays


def close(a, b, tolerance=1e-6):
    chex.assert_trees_all_close(a, b, rtol=tolerance, atol=tolerance)


@functools.partial(jax.jit, static_argnums=0)
def around(form, w, x):
    """A point, projected, and encoded again; what the weights, the point and its weights compute.

    All in one program.
    """
    point = form.encode(w)
    back = form.decode(point)
    computed = (function(form.network, w, x), function(form.spec, point, x))
    again = form.manifold().project(point), form.encode(back)
    return point, again, (*computed, function(form.network, back, x))


def check_around(form, w, x=None, keeps=True, tolerance=1e-6):
    """The point lies on the manifold, encodes to itself, and computes the same."""
    point, again, computed = around(form, w, X if x is None else x)
    chex.assert_tree_all_finite(point)
    for other in again:
        close(other, point, tolerance)
    for other in computed[1:]:
        close(other, computed[0] if keeps else computed[1], 1e-5)
    return point


def stack(trees):
    return jax.tree.map(lambda *a: jnp.stack(a), *trees)


def dead(bias, outgoing=1.0):
    """Nothing but a bias enters neuron 0."""
    first, biases, second = W[K1].copy(), W[B1].copy(), W[K2].copy()
    first[:, 0], biases[0] = 0, bias
    second[0] *= outgoing
    return W | {K1: first, B1: biases, K2: second}


def sized(first, second):
    return W | {K1: W[K1] * first, B1: W[B1] * first, K2: W[K2] * second}


KEPT = {
    "dead, without bias": dead(0.0),
    "dead, with negative bias": dead(-0.3),
    "dead, and nothing leaves it": dead(0.7, outgoing=0.0),
    "tiny, then huge": sized(1e-30, 1e30),
    "huge, then tiny": sized(1e30, 1e-30),
    "zero biases": W | {B1: 0 * W[B1], B2: 0 * W[B2]},
}
LOST = {
    "dead, with a bias that passes": (dead(0.7), "'dense1.kernel' brings nothing to neuron 0"),
    "no last kernel": (W | {K2: 0 * W[K2]}, "same for all inputs, as 'dense2.kernel' is zero"),
    "one last column": (W | {K2: np.ones((8, 3), np.float32)}, "'dense2.kernel' is zero"),
    "nothing": (jax.tree.map(np.zeros_like, W), "'dense2.kernel' is zero"),
}


@pytest.mark.parametrize("w", KEPT.values(), ids=KEPT)
def test_forms_of_dead_tiny_and_huge_neurons_keep_the_function(w):
    FORM.check(stack([W, w]))
    point = check_around(FORM, w)
    moved = moved_by_scale(w)
    close(encoded(FORM, moved), point, 1e-5)


@jax.jit
def moved_by_scale(w):
    return rescale(SPEC, random_rescaling(SPEC, jax.random.key(3)), w)


@pytest.mark.parametrize(("w", "message"), LOST.values(), ids=LOST)
def test_what_has_no_form_is_named(w, message):
    check_around(FORM, w, keeps=False)
    with pytest.raises(ValueError, match=f"network 1 has no canonical form: .*{message}"):
        FORM.check(stack([W, w]))


def test_a_negative_bias_is_silent_behind_relu_only():
    one = jax.tree.map(lambda a: jnp.asarray(a[None]), dead(-0.3))
    with pytest.raises(ValueError, match="neuron 0 of 'h1'"):
        Canonical(mlp(4, 8, 3, activation="leaky_relu")).check(one)


def test_nan_stays_seen():
    point = encoded(FORM, W | {K1: jnp.asarray(W[K1]).at[0, 2].set(jnp.nan)})
    assert np.isnan(point[K1][:, 2]).all()
    assert np.isnan(point[K2]).any()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_encoded_in_single(dtype):
    half = jax.tree.map(lambda a: jnp.asarray(a, dtype), W)
    point = encoded(FORM, half)
    np.testing.assert_allclose(np.linalg.norm(point[K1], axis=0), 1, atol=1e-6)
    single = jax.tree.map(lambda a: a.astype("float32"), half)
    chex.assert_trees_all_equal(point, encoded(FORM, single))
    assert {a.dtype for a in point.values()} == {jnp.float32.dtype}
    assert AsTrained(SPEC).encode(half)[K1].dtype == jnp.float32
    with pytest.raises(ValueError, match=r"'dense1\.kernel' holds int32"):
        FORM.encode(jax.tree.map(jnp.asarray, W) | {K1: jnp.ones((4, 8), int)})


def shifted(w, key):
    """The same probabilities: all outputs are larger by one affine function of the last layer."""
    a, b = jax.random.normal(key, (8, 1)), 3.0
    return w | {K2: w[K2] + a, B2: w[B2] + b}


def test_what_probabilities_do_not_see_is_gone():
    a = jax.random.normal(jax.random.key(0), (8, 1))
    moved = W | {K2: W[K2] + a, B2: W[B2] + 3.0}
    close(check_around(FORM, moved), check_around(FORM, W))
    keeps, raw = canonical(SPEC, keep_logits=True), functools.partial(outputs, SPEC)
    back = [keeps.decode(encoded(keeps, w)) for w in (W, moved)]
    for w, other in zip((W, moved), back, strict=True):
        close(raw(other, X), raw(w, X), 1e-5)
    assert float(jnp.abs(raw(back[0], X) - raw(back[1], X)).max()) > 1


def test_reference_draws_have_the_spread_that_was_asked_for():
    flat = Canonical(SPEC, "euclidean").prior({K1: 1.0, B1: 0.1, K2: 0.3, B2: 0.2})
    draw = jax.jit(lambda f, key: jax.vmap(f.sample)(jax.random.split(key, 4000)))
    for name, std in ((B1, 0.1), (K2, 0.3), (B2, 0.2)):
        draws = np.asarray(draw(flat.factors[name], jax.random.key(0)))
        assert draws.std() == pytest.approx(std, rel=0.03)
        if name != B1:
            np.testing.assert_allclose(draws.sum(-1), 0, atol=1e-5)
    with pytest.raises(NotImplementedError, match="not Gaussian"):
        flat.factors[B2].gaussian()


NARROW = {
    "one input": mlp(1, 6, 1),
    "one of each": mlp(1, 1, 2),
    "one hidden neuron": mlp(4, 1, 3),
    "one tanh neuron": mlp(3, 1, 1, 2, activation="tanh"),
}


@pytest.mark.parametrize("spec", NARROW.values(), ids=NARROW)
def test_spheres_of_dimension_0_are_signs(spec):
    check_around(canonical(spec), weights(spec, 0), inputs((spec.groups["in"].size,)), True, 1e-5)


@pytest.mark.slow
def test_flows_over_narrow_and_dead_networks():
    """A sign into each neuron of the first layer, one of them dead, and one for the last kernel."""
    spec = mlp(1, 2, 1, 2)
    form, many = canonical(spec), [weights(spec, s) for s in range(3)]
    many[1] |= {K1: many[1][K1].at[:, 0].set(0), B1: many[1][B1].at[0].set(-0.2)}
    form.check(stack(many))
    points = [encoded(form, w) for w in many]
    chex.assert_trees_all_close(jnp.abs(points[0][K1]), jnp.ones((1, 2)))
    matching = FlowMatching(form.manifold(), prediction=X1Prediction())

    def loss(scale):
        field = lambda t, x: jax.tree.map(lambda a: scale * a, x)  # noqa: E731
        return matching.loss(field, stack(points), jax.random.key(0))

    assert np.isfinite(jax.jit(jax.value_and_grad(loss))(0.9)).all()


TANH = mlp(4, 3, 2, activation="tanh")
DEEP = mlp(2, 3, 3, 2, activation="tanh")


def flips(spec, group):
    return [{group: jnp.array(s)} for s in itertools.product((1.0, -1.0), repeat=3)]


def test_signs_of_tied_neurons_are_fixed():
    """Incoming weights that sum to 0, up to rounding or exactly; none; and no bias either."""
    kernel = jnp.array([[0.1, 0.2, -0.3, 0.0], [0.5, -0.5, 0.25, -0.25], [0, 0, 0, 0]]).T
    for bias in (0.4, 0.0):
        w = weights(TANH, 0) | {K1: kernel, B1: jnp.array([0.0, 0.0, bias])}
        point = check_around(canonical(TANH), w)
        for signs in flips(TANH, "h1"):
            close(encoded(canonical(TANH), rescale(TANH, signs, w)), point)


@pytest.mark.parametrize("column", [(0.1, 0.2, -0.3), (0.5, -0.5, 0.0)])
def test_signs_of_tied_neurons_do_not_depend_on_the_order_of_others(column):
    first = weights(DEEP, 0)
    w = first | {"dense2.kernel": first["dense2.kernel"].at[:, 0].set(jnp.array(column))}
    form = canonical(DEEP)
    for order in itertools.permutations(range(3)):
        moved = permute(DEEP, {"h1": jnp.array(order)}, w)
        for s in flips(DEEP, "h2")[::3]:
            expected = permute(form.spec, {"h1": jnp.array(order)}, encoded(form, w))
            close(encoded(form, rescale(DEEP, s, moved)), expected)


LEFT = {
    "residual": ["affine map of 'stream'"],
    "layer norm": ["to all neurons of 'h1' alike", "to all neurons of 'h2' alike"],
    "resnet": ["mean and the shift"],
    "vit": ["between the queries and the keys of each head", "orthogonal map of 'stream'"],
    "siren": ["2π/3 added to the bias of each neuron of 'h1'"],
}


def test_symmetries_that_are_left_are_said():
    spec = residual_mlp(3, 4, 4, 2, blocks=1, activation="gelu")
    form, w = canonical(spec), weights(spec, 0)
    matrix = jnp.eye(4) + 0.5 * jax.random.normal(jax.random.key(0), (4, 4))
    inverse = jnp.linalg.inv(matrix)
    moved = dict(w)
    for name in ("embed.kernel", "embed.bias", "down1.kernel", "down1.bias"):
        moved[name] = w[name] @ matrix
    for name in ("up1.kernel", "out.kernel"):
        moved[name] = inverse @ w[name]
    x = inputs((3,))
    close(function(spec, moved, x), function(spec, w, x), 1e-4)
    assert form.manifold().dist(encoded(form, w), encoded(form, moved)) > 1
    with pytest.raises(ValueError, match=r"not those of the quotient, .* affine map of 'stream'"):
        form.check_quotient()
    with pytest.raises(ValueError, match="rescaling of each neuron of 'h1'"):
        AsTrained(SPEC).check_quotient()
    with pytest.raises(ValueError, match="added to all outputs"):
        canonical(SPEC, keep_logits=True).check_quotient()
    for name, (spec, _) in NETWORKS.items():
        left = canonical(spec).symmetries_left()
        assert [words for words in LEFT.get(name, ()) if words not in "; ".join(left)] == []
        assert bool(left) == (name in LEFT)
