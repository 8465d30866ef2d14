"""The matrices that keep what attention computes, and a form without them."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from wfm.weights.precision import in_working_precision
from wfm.weights.spec import Weights, WeightSpec


@dataclasses.dataclass(frozen=True)
class Attention:
    """The layers of attention with heads, by name.

    Kernels of queries, keys and values are (from, heads, d), with biases (heads, d); the kernel of
    outputs is (heads, d, to), with a bias (to,).
    """

    query: str
    key: str
    value: str
    output: str


@runtime_checkable
class HasAttention(Protocol):
    """Activations of a network that list their layers of attention, in order of computation."""

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """The layers of attention of this network."""
        ...


def balance_heads(spec: WeightSpec, weights: Weights) -> Weights:
    """The same function, with queries and keys, and values and outputs, of each head balanced.

    Any invertible matrix may act on the queries of a head if its inverse acts on the keys, and
    likewise on its values and outputs; besides permutations of heads, nothing else keeps what
    attention computes (Tran et al. 2025, 'Equivariant neural functional networks for transformers',
    on the maximal symmetric group). So only the product of the two kernels counts. With its
    singular value decomposition U S Vᵀ they become U √S and √S Vᵀ, singular values falling, each
    column of U with a sum of cubes above 0. Biases of keys, which softmax does not see, become 0,
    and those of values join those of outputs.

    This is one form of each orbit if all singular values of a head differ. A rescaling of the
    neurons before changes the product, so balance canonical weights, and encode them again:
    `form.encode(balance_heads(spec, form.decode(form.encode(weights))))`. Networks without
    attention come back as they are.
    """
    spec.check(weights)
    if not isinstance(spec.activations, HasAttention):
        return weights
    new = in_working_precision(weights)
    for layer in spec.activations.attentions:
        new |= _balanced(layer, new)
    return {name: new[name] for name in spec.arrays}


def _balanced(layer: Attention, w: Weights) -> Weights:
    """What changes in one layer."""
    q, k, v, o = layer.query, layer.key, layer.value, layer.output
    with_bias = jnp.concatenate([w[f"{q}.kernel"], w[f"{q}.bias"][None]])
    queries, keys = _split(jnp.moveaxis(with_bias, 1, 0), jnp.moveaxis(w[f"{k}.kernel"], 0, -1))
    values, outputs = _split(jnp.moveaxis(w[f"{v}.kernel"], 1, 0), w[f"{o}.kernel"])
    passed = jnp.einsum("hd,hdn->n", w[f"{v}.bias"], w[f"{o}.kernel"])
    return {
        f"{q}.kernel": jnp.moveaxis(queries[:, :-1], 0, 1),
        f"{q}.bias": queries[:, -1],
        f"{k}.kernel": jnp.moveaxis(keys, -1, 0),
        f"{k}.bias": jnp.zeros_like(w[f"{k}.bias"]),
        f"{v}.kernel": jnp.moveaxis(values, 0, 1),
        f"{v}.bias": jnp.zeros_like(w[f"{v}.bias"]),
        f"{o}.kernel": outputs,
        f"{o}.bias": w[f"{o}.bias"] + passed,
    }


def _split(
    a: Float[Array, "heads m d"], b: Float[Array, "heads d n"]
) -> tuple[Float[Array, "heads m d"], Float[Array, "heads d n"]]:
    """The balanced factors of the product of each head, of rank d, from that of a small matrix."""
    d = a.shape[-1]
    (qa, ra), (qb, rb) = jnp.linalg.qr(a), jnp.linalg.qr(jnp.swapaxes(b, 1, 2))
    u, s, vt = jnp.linalg.svd(ra @ jnp.swapaxes(rb, 1, 2), full_matrices=False)
    left, right = qa @ u, vt @ jnp.swapaxes(qb, 1, 2)
    # Two sums with all neurons alike, so that their order does not matter.
    cubes, sums = (left**3).sum(1), (right**3).sum(2)
    sign = jnp.where(jnp.abs(cubes) > 1e-4, cubes, sums) < 0
    sign = jnp.where(sign, -1.0, 1.0)[:, None] * jnp.sqrt(s)[:, None]
    short = d - left.shape[-1]  # fewer neurons than units: the rest is 0
    left, right = left * sign, right * jnp.swapaxes(sign, 1, 2)
    return jnp.pad(left, ((0, 0), (0, 0), (0, short))), jnp.pad(right, ((0, 0), (0, short), (0, 0)))
