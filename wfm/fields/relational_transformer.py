"""The Relational Transformer over the graph of a network's weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from wfm.fields.graph import Edges, Nodes, WeightGraph
from wfm.fields.graph_field import GraphField
from wfm.fields.linear import rows_times
from wfm.fields.updates import EdgeMLP, NodeMLP, edge_norm


class TransformerLayer(nnx.Module):
    """Attention of every node to its neighbours, then updates of nodes and of edges."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.attention = _Attention(width, rngs=rngs)
        self.node_norm = nnx.LayerNorm(width, rngs=rngs)
        self.edge_norm = edge_norm(width, rngs)
        self.mlp_norm = nnx.LayerNorm(width, rngs=rngs)
        self.node_mlp = NodeMLP(width, rngs=rngs)
        self.edge_mlp = EdgeMLP(width, rngs=rngs)

    def __call__(self, graph: WeightGraph, nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
        if not graph.blocks:  # no neighbours at all
            return nodes + self.node_mlp(self.mlp_norm(nodes)), edges
        e = self.edge_norm(edges)
        nodes = nodes + self.attention(graph, self.node_norm(nodes), e)
        n = self.mlp_norm(nodes)
        return nodes + self.node_mlp(n), edges + self.edge_mlp(graph, n, e)


class RelationalTransformer(GraphField):
    """Attention between neurons joined by a weight, modulated by the weights between them.

    Diao & Loynd (2023, arXiv 2210.05062), on neural graphs as in Kofinas et al. (2024, arXiv
    2403.12143). Every weight has one hidden state, through which its two neurons attend, each with
    its own projections. Cost grows with the number of weights.
    """

    layer = TransformerLayer


class _Attention(nnx.Module):
    """One joint softmax for each node over all its incoming and outgoing neighbours.

    With q_ij = n_i Qₙ + e_ij Qₑ, and k_ij, v_ij likewise from n_j (Diao & Loynd 2023, equations
    7 to 9), the logits q_ij·k_ij expand to n_i Qₙ·n_j Kₙ + e_ij·(e_ij Qₑ Kₑᵀ + n_i Qₙ Kₑᵀ +
    n_j Kₙ Qₑᵀ): one matrix product per edge instead of two. Values are projected after averaging,
    per node and not per edge.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        linear = lambda: nnx.Linear(width, width, use_bias=False, rngs=rngs)  # noqa: E731
        self.query, self.key, self.value = linear(), linear(), linear()
        self.incoming = EdgeProjections(width, rngs=rngs)
        self.outgoing = EdgeProjections(width, rngs=rngs)
        self.out = linear()

    def __call__(self, graph: WeightGraph, nodes: Nodes, edges: Edges) -> Nodes:
        into, out_of = self.incoming, self.outgoing
        query, key = self.query(nodes), self.key(nodes)
        seen_into = graph.pairs(into.seen_from(key), into.seen_by(query))
        seen_out_of = graph.pairs(out_of.seen_by(query), out_of.seen_from(key))
        logits_into = graph.unpack_edges(into.logits(edges, seen_into))
        logits_out_of = graph.unpack_edges(out_of.logits(edges, seen_out_of))
        queries, keys = graph.unpack_nodes(query), graph.unpack_nodes(key)
        values, e = graph.unpack_nodes(self.value(nodes)), graph.unpack_edges(edges)

        # For every set of nodes and each of its blocks: logits (node, neighbour), edges, values.
        receiving = {g: [] for g in graph.sizes}
        sending = {g: [] for g in graph.sizes}
        for s, r in graph.blocks:
            logits = logits_into[s, r].squeeze(-1).T + queries[r] @ keys[s].T
            receiving[r].append((logits, e[s, r], values[s]))
            logits = logits_out_of[s, r].squeeze(-1) + queries[s] @ keys[r].T
            sending[s].append((logits, e[s, r], values[r]))
        scale = 1 / math.sqrt(nodes.shape[-1])
        parts = [_attend(receiving[g], sending[g], scale) for g in graph.sizes]
        value, received, sent = (jnp.concatenate(part) for part in zip(*parts, strict=True))
        return self.out(value + into.value(received) + out_of.value(sent))


def _attend(receiving: list, sending: list, scale: float) -> tuple[Array, Array, Array]:
    """Averages over one joint softmax: of values, incoming edges and outgoing edges."""
    blocks = receiving + sending
    stops = np.cumsum([logits.shape[1] for logits, _, _ in blocks])[:-1]
    shares = softmax(scale * jnp.concatenate([logits for logits, _, _ in blocks], 1), 1)
    shares = jnp.split(shares, stops, 1)
    values = [share @ v for share, (_, _, v) in zip(shares, blocks, strict=True)]
    n, zero = len(receiving), jnp.zeros_like(values[0])
    # Edges lie as (sender, receiver): only the shares, which are few, are transposed.
    received = [
        (p.T[..., None] * e).sum(0) for p, (_, e, _) in zip(shares, receiving, strict=False)
    ]
    sent = [(p[..., None] * e).sum(1) for p, (_, e, _) in zip(shares[n:], sending, strict=True)]
    return sum(values, zero), sum(received, zero), sum(sent, zero)


def softmax(logits: Array, axis: int) -> Array:
    """Softmax, computed in at least single precision."""
    exact = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.softmax(exact, axis).astype(logits.dtype)


class EdgeProjections(nnx.Module):
    """How nodes see the edges of one direction: queries, keys and values of an edge."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        linear = lambda: nnx.Linear(width, width, use_bias=False, rngs=rngs)  # noqa: E731
        self.query, self.key, self.value = linear(), linear(), linear()

    def logits(self, edges: Edges, seen: Edges) -> Float[Array, "edges 1"]:
        """e·(e Qₑ Kₑᵀ + `seen`), for `seen` = n_i Qₙ Kₑᵀ + n_j Kₙ Qₑᵀ of each edge."""
        bilinear = self.query.kernel[...] @ self.key.kernel[...].T
        return (edges * (rows_times(edges, bilinear) + seen)).sum(-1, keepdims=True)

    def seen_by(self, query: Nodes) -> Nodes:
        """n_i Qₙ Kₑᵀ, from n_i Qₙ of the node that attends."""
        return query @ self.key.kernel[...].T

    def seen_from(self, key: Nodes) -> Nodes:
        """n_j Kₙ Qₑᵀ, from n_j Kₙ of the node attended to."""
        return key @ self.query.kernel[...].T
