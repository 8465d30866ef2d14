"""Labels found in computations: what they are, that they are right, and that none is missing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.weights.traced import FUNCTIONS, say
from wfm.weights import Canonical, trace

OFTEN = (
    "relu",
    "gated",
    "scan over layers",
    "batch norm",
    "depthwise",
    "heads",
    "a constant varies",
)
functions = pytest.mark.parametrize("case", FUNCTIONS.values(), ids=FUNCTIONS)
compiled = pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, id=n, marks=() if n in OFTEN else pytest.mark.slow)
        for n, c in FUNCTIONS.items()
    ],
)


def traced(case):
    return trace(case.apply, case.weights(), case.inputs()[0])


def stacked(weights):
    return jax.tree.map(lambda a: a[None], weights)


@functions
def test_labels(case):
    assert say(traced(case)) == (case.labels, case.groups, case.powers)


@compiled
def test_symmetries_keep_the_outputs(case):
    spec = traced(case)
    weights = stacked(spec.from_params(case.weights()))
    if case.logits:
        spec.verify(
            weights,
            case.inputs(),
            jax.vmap(lambda x: case.apply(case.weights(), x))(case.inputs())[None],
        )
        return
    with pytest.raises(ValueError, match="outputs must be sums of what enters 'out'"):
        spec.verify(weights, case.inputs())


@functions
def test_parameters_come_back(case):
    spec, params = traced(case), case.weights()
    back = spec.to_params(spec.from_params(params))
    assert back.keys() == params.keys()
    assert all((back[n] == params[n]).all() for n in params)


@compiled
def test_canonical_forms_keep_the_function(case):
    spec = traced(case)
    if not case.logits:
        return
    if not case.canonical:
        with pytest.raises(ValueError, match="no array of its own enters 'out'"):
            Canonical(spec)
    form = Canonical(spec, "sphere+scale" if case.canonical else "euclidean")
    weights = spec.from_params(case.weights())
    point = form.encode(weights)
    form.check(stacked(weights))
    before, after = (
        jax.nn.log_softmax(s.outputs(w, case.inputs()))
        for s, w in ((spec, weights), (form.spec, point))
    )
    np.testing.assert_allclose(after, before, rtol=2e-4, atol=2e-4)
    again = form.encode(form.decode(point))
    for name in point:
        np.testing.assert_allclose(again[name], point[name], rtol=1e-4, atol=1e-4)


@compiled
def test_no_rescaling_is_missing(case):
    """The factors along axes that keep the outputs, counted by the derivative, in float64."""
    spec = traced(case)
    with jax.enable_x64():
        x = case.inputs(100, np.float64)
        weights = spec.from_params(case.weights(dtype=np.float64))
        flat, unravel = ravel_pytree(weights)
        outputs = lambda w: jax.vmap(lambda row: case.apply(spec.to_params(unravel(w)), row))(x)  # noqa: E731
        jacobian = np.asarray(jax.jacobian(outputs)(flat)).reshape(-1, len(flat))
        tangents = []
        for name, array in weights.items():
            for axis, n in enumerate(array.shape):
                for i in range(n):
                    at_i = jnp.zeros(n).at[i].set(1.0)
                    at_i = at_i.reshape([-1 if a == axis else 1 for a in range(array.ndim)])
                    others = {m: jnp.zeros_like(a) for m, a in weights.items()}
                    tangents.append(ravel_pytree(others | {name: array * at_i})[0])
        space, sizes, _ = np.linalg.svd(np.stack(tangents).T, full_matrices=False)
        space = space[:, sizes > 1e-9 * sizes[0]]
        sizes = np.linalg.svd(jacobian @ space, compute_uv=False)
        free = space.shape[1] - int((sizes > 1e-9 * sizes[0]).sum())
    found = sum(group.size for group in spec.groups.values() if group.scaling.unit_norm)
    assert found == free if case.complete else found < free
