"""Traced networks of this package, of Flax and of Equinox, and what else is done with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.nn import relu

import wfm
from tests.weights.modules import MODULES
from tests.weights.table import NETWORKS
from tests.weights.traced import FUNCTIONS, say
from wfm.weights import (
    ActivationMatching,
    AsTrained,
    Canonical,
    align_all,
    permute,
    random_permutation,
    trace,
)

modules = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


def groups(spec):
    """Each group as the arrays it acts on, with what is said of it."""
    return {
        frozenset(
            (n, power) for n in spec.arrays for _, g, power in spec.factors(n) if g == name
        ): (
            group.size,
            group.permutable,
            group.scaling,
        )
        for name, group in spec.groups.items()
    }


@pytest.mark.parametrize(("spec", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_labels_by_hand_are_found(spec, shape):
    found = trace(spec.apply, spec.init(jax.random.key(0)), jnp.ones(shape))
    assert groups(found) == groups(spec)
    by_hand = {
        frozenset(n for n in spec.arrays if o in spec.labels(n).values()) for o in spec.orders
    }
    orders = {
        frozenset(n for n in found.arrays if o in found.labels(n).values()) for o in found.orders
    }
    assert orders == by_hand


def generic(params, seed=0):
    """All arrays moved, so that no bias is 0 and no gain 1; variances stay positive."""
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    moved = [
        a + 0.2 * np.abs(rng.normal(size=a.shape)).astype(np.float32)
        if hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jnp.floating)
        else a
        for a in leaves
    ]
    return jax.tree.unflatten(structure, moved)


@modules
def test_modules(module):
    spec, params = trace(module.apply, module.params, module.x), generic(module.params)
    for name, axes in module.labels.items():
        assert spec.arrays[name] == axes
    assert say(spec)[1:] == (module.groups, module.powers)
    weights = spec.from_params(params)
    x = jax.random.normal(jax.random.key(1), (4, *module.x.shape))
    outputs = jax.jit(jax.vmap(functools.partial(module.apply, params)))(x)
    spec.verify(jax.tree.map(lambda a: a[None], weights), x, outputs[None])
    back = spec.to_params(weights)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    np.testing.assert_array_equal(module.apply(back, x[0]), module.apply(params, x[0]))


def test_what_is_not_understood_is_named():
    def apply(p, x):
        return jnp.sort(relu(x @ p["a"])) @ p["o"]  # whose neurons have no order of their own

    spec = trace(apply, {"a": jnp.ones((5, 8)), "o": jnp.ones((8, 3))}, jnp.ones(5))
    said = spec.explain()
    assert "64 weights in 2 arrays" in said
    assert "a    8 neurons: in a fixed order, not rescaled" in said
    assert "no rule says what it does in 'sort' (test_traced_modules.py:" in said
    assert "a number added to all outputs" not in said
    linear = trace(FUNCTIONS["linear"].apply, FUNCTIONS["linear"].weights(), jnp.ones(5)).explain()
    assert "times any number but 0" in linear
    assert "any invertible affine map of 'a'" in linear


BAD = {
    "no weights": (lambda p, x: x, {"n": np.arange(3)}, "no floating-point array"),
    "a number": (lambda p, x: (x @ p["a"]).sum(), {"a": np.ones((5, 3), "f4")}, "on its last axis"),
    "two outputs": (
        lambda p, x: (x @ p["a"], x),
        {"a": np.ones((5, 3), "f4")},
        r"arrays of shapes \(3,\), \(5,\) for one input",
    ),
}


@pytest.mark.parametrize(("apply", "params", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_traced(apply, params, message):
    with pytest.raises(ValueError, match=message):
        trace(apply, params, np.ones(5, np.float32))


def test_other_parameters_are_refused():
    case = FUNCTIONS["relu"]
    spec = trace(case.apply, case.weights(), case.inputs()[0])
    with pytest.raises(ValueError, match="another structure"):
        spec.from_params({"a": jnp.ones((5, 8))})
    with pytest.raises(ValueError, match=r"'a' has shape \(5, 9\), and \(5, 8\) is expected"):
        spec.from_params(case.weights() | {"a": jnp.ones((5, 9))})


def test_traces_of_one_function_are_equal():
    case = FUNCTIONS["scan over layers"]
    one, two = (trace(case.apply, case.weights(seed), case.inputs()[0]) for seed in (0, 1))
    assert one == two
    assert hash(one) == hash(two)
    assert one != trace(lambda p, x: case.apply(p, x), case.weights(), case.inputs()[0])


@pytest.mark.parametrize("name", ["relu", "pooled and flattened", "scan over layers", "heads"])
def test_neurons_say_something(name):
    case = FUNCTIONS[name]
    spec = trace(case.apply, case.weights(), case.inputs()[0])
    said = spec.activations(spec.from_params(case.weights()), case.inputs()[0])
    for order in spec.permutable:
        assert said[order].shape[-1] == spec.groups[order].size
    np.testing.assert_allclose(said["out"], case.apply(case.weights(), case.inputs()[0]), rtol=1e-5)
    moved = permute(
        spec, random_permutation(spec, jax.random.key(0)), spec.from_params(case.weights())
    )
    stacked = jax.tree.map(lambda a: a[None], moved)
    back, _ = align_all(
        spec, spec.from_params(case.weights()), stacked, ActivationMatching(case.inputs(20))
    )
    for n in back:
        np.testing.assert_array_equal(back[n][0], spec.from_params(case.weights())[n])


PERMUTED = {n: c for n, c in FUNCTIONS.items() if c.logits}


@pytest.mark.slow
@pytest.mark.parametrize("case", PERMUTED.values(), ids=PERMUTED)
def test_planted_permutations_are_undone(case):
    spec = trace(case.apply, case.weights(), case.inputs()[0])
    weights = spec.from_params(case.weights())
    keys = jax.random.split(jax.random.key(0), 20)
    moved = jax.vmap(lambda key: permute(spec, random_permutation(spec, key), weights))(keys)
    back, _ = align_all(spec, weights, moved)
    for name, array in back.items():
        np.testing.assert_array_equal(array, jnp.broadcast_to(weights[name], array.shape))


LEFT = {  # what distances between canonical forms may miss
    "relu": "",
    "pooled and flattened": "",
    "layer norm": "neurons of 'a' may have in common.*shifts of 'g'",
    "batch norm": "changes of 'v'",
    "heads": "inside of each neuron",
    "softmax of neurons": "neurons of 'a' may have in common",
    "batch norm, exact": "factors that cancel",
}


@pytest.mark.parametrize(("name", "message"), LEFT.items(), ids=LEFT)
def test_what_is_left_is_said(name, message):
    case = FUNCTIONS[name]
    form = Canonical(trace(case.apply, case.weights(), case.inputs()[0]))
    if not message:
        form.check_quotient()
        return
    with pytest.raises(ValueError, match=f"(?s)not those of the quotient.*{message}"):
        form.check_quotient()


def test_other_widths():
    case = FUNCTIONS["relu"]
    spec = trace(case.apply, case.weights(), case.inputs()[0]).resize(a=12)
    weights = AsTrained(spec).prior().sample(jax.random.key(0))
    expected = case.apply(weights, case.inputs()[0])  # whose layout is as it was stored
    np.testing.assert_allclose(spec.apply(weights, case.inputs()[0]), expected, rtol=1e-5)


def test_derivatives_are_those_of_the_function():
    """A function keeps the derivative it was given: that of ReLU is 0 at 0, and not a half."""
    case = FUNCTIONS["relu"]._replace(apply=lambda p, x: relu(x @ p["a"]) @ p["o"])
    zero = {"a": jnp.zeros((5, 8)), "o": jnp.ones((8, 3))}
    spec = trace(case.apply, zero, case.inputs()[0])
    of = lambda apply: jax.grad(lambda w: apply(w, jnp.ones(5)).sum())(zero)["a"]  # noqa: E731
    np.testing.assert_array_equal(of(spec.apply), of(case.apply))
    assert (of(spec.apply) == 0).all()


@pytest.mark.slow
def test_a_flow_over_somebody_elses_module():
    """From a Flax module to a zoo, a canonical form, a field, two steps, samples, and back."""
    task = wfm.load_task("iris")
    module = nn.Sequential([nn.Dense(6), nn.LayerNorm(), nn.relu, nn.Dense(3)])
    params = module.init(jax.random.key(0), jnp.ones(4))
    spec = wfm.trace(module.apply, params, jnp.ones(4))
    draw = lambda key: spec.from_params(module.init(key, jnp.ones(4)))  # noqa: E731
    initial = jax.vmap(draw)(jax.random.split(jax.random.key(1), 8))
    schedule = wfm.zoo.Schedule(epochs=12, burn_in=10, stride=2)
    zoo = wfm.train_zoo(spec, task, initial, optax.adam(1e-2), jax.random.key(2), schedule)
    form = Canonical(spec)
    points = form.encode_all(zoo.weights)
    matching = wfm.FlowMatching(form.manifold())
    for fold in (True, False):
        field = wfm.RelationalTransformer(form.spec, width=8, depth=1, fold=fold, rngs=wfm.Rngs(0))
        flow, losses = wfm.learn(matching, field, points, jax.random.key(3), steps=2)
        assert np.isfinite(losses).all()
        new = form.decode(flow.sample(jax.random.key(4)))
        logits = module.apply(spec.to_params(new), jnp.asarray(task.test.x[0]))
        assert np.isfinite(logits).all()
