"""The PyTorch rival computes the same function as this code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fields.test_fields import jiggled_parameters
from tests.weights.table import weights
from wfm.fields import FullTransformer, functional
from wfm.weights import Canonical, mlp

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow
from experiments.bench import torch_cases  # noqa: E402
from experiments.bench.torch_field import DenseTransformer  # noqa: E402

SPECS = {
    "deep": mlp(5, 8, 6, 3),
    "linear": mlp(4, 3),
    "with a global node": Canonical(mlp(4, 5, 2), "sphere+scale").spec,
}


def both(spec, depth, width=8):
    """The same jiggled field by jax and by torch; the first as (parameters, t, x)."""
    field = FullTransformer(spec, width=width, depth=depth, rngs=nnx.Rngs(0))
    bind, params = functional(field)
    params = jiggled_parameters(params, 0.1)
    nnx.update(field, params)
    by_jax = jax.jit(jax.vmap(lambda p, t, x: bind(p)(t, x), (None, 0, 0)))
    return by_jax, params, DenseTransformer(field)


def batch(spec, n=3):
    many = [weights(spec, seed) for seed in range(n)]
    return jnp.linspace(0.1, 0.9, n), jax.tree.map(lambda *a: jnp.stack(a), *many)


def to_torch(tree):
    return {name: torch.from_numpy(np.array(a)) for name, a in tree.items()}


@pytest.mark.parametrize("depth", [1, 5])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_outputs_agree(spec, depth):
    by_jax, params, by_torch = both(spec, depth)
    t, x = batch(spec)
    expected = by_jax(params, t, x)
    found = by_torch(torch.from_numpy(np.array(t)), to_torch(x))
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name].detach(), expected[name], atol=1e-4, rtol=1e-4)
    assert max(float(jnp.abs(a - x[n]).max()) for n, a in expected.items()) > 0.1


def test_gradients_agree():
    spec = SPECS["deep"]
    by_jax, params, by_torch = both(spec, 2)
    t, x = batch(spec)
    loss = lambda p: sum((a**2).sum() for a in by_jax(p, t, x).values())  # noqa: E731
    gradient = jax.grad(loss)(params)
    found = by_torch(torch.from_numpy(np.array(t)), to_torch(x))
    sum((a**2).sum() for a in found.values()).backward()
    kernels = gradient["layers"]["edge_mlp"]["down"]["kernel"][...]
    for kernel, layer in zip(kernels, by_torch.layers, strict=True):
        expected = np.asarray(kernel).T
        error = np.abs(layer.edge_down.weight.grad.numpy() - expected).max()
        assert error < 1e-3 * np.abs(expected).max()


@pytest.mark.slow
def test_cases_measure_something():
    size = {"widths": [3, 4, 2], "width": 4, "depth": 1, "compiled": False, "threads": 1}
    assert torch_cases.training(batch=2, **size)["seconds"]["median"] > 0
    assert torch_cases.sampling(networks=2, steps=2, **size)["seconds"]["median"] > 0
    zoo = torch_cases.zoo("iris", [4], networks=1, epochs=1, batch_size=32, threads=1)
    assert zoo["seconds"]["median"] > 0
    assert all(ns > 0 for ns in torch_cases.manifold(n=100, dim=5).values())
