"""The Relational Transformer over the graph of a network's weights."""

import math
from collections.abc import Collection, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from wfm.fields.embedding import TimeEmbedding
from wfm.fields.graph import Block, WeightGraph
from wfm.weights import Weights, WeightSpec

Nodes = Float[Array, "nodes width"]
Edges = Float[Array, "edges width"]


class RelationalTransformer(nnx.Module):
    """Vector field over weights: attention between neurons, modulated by the weights between them.

    Diao & Loynd (2023, arXiv 2210.05062), on neural graphs as in Kofinas et al. (2024, arXiv
    2403.12143). Every weight has one hidden state, which its two neurons attend through, each
    with projections of its own.

    `spec`: the architecture of the weights (a `WeightForm`'s `spec`). `width`, `depth`: features
    of each node and edge, number of layers. `fold`: see `WeightGraph`. `own_embedding`: groups
    whose neurons get an embedding each, by default those with a fixed order; the field is
    equivariant to permutations of all other groups. `unit`: typical size of the entries of each
    array, which its inputs are divided and its outputs multiplied by.

    The parameters fit every size of the groups that have nodes but no embeddings of their own.
    """

    def __init__(
        self,
        spec: WeightSpec,
        *,
        width: int = 32,
        depth: int = 3,
        fold: bool = False,
        own_embedding: Collection[str] | None = None,
        unit: Mapping[str, float] | None = None,
        rngs: nnx.Rngs,
    ):
        own = spec.fixed if own_embedding is None else own_embedding
        self.graph = graph = WeightGraph(spec, fold)
        self.unit = tuple((unit or {}).items())
        self.time = TimeEmbedding(width, rngs=rngs)
        self.node_encoders = nnx.Dict(
            {
                name: _Encoder(
                    graph.node_channels[name], size if name in own else 1, width, rngs=rngs
                )
                for name, size in graph.sizes.items()
            }
        )
        self.edge_encoders = nnx.Dict(
            {
                _name(block): _Encoder(channels, 1, width, rngs=rngs)
                for block, channels in graph.edge_channels.items()
            }
        )
        # One layer with stacked parameters, to be scanned over: it compiles `depth` times faster.
        make = nnx.vmap(lambda rngs: _Layer(width, rngs=rngs), in_axes=0, out_axes=0)
        self.layers = make(rngs.split(depth))
        self.node_heads = nnx.Dict(
            {name: _Head(c, width, rngs=rngs) for name, c in graph.node_channels.items() if c}
        )
        self.edge_blocks = tuple(b for b, channels in graph.edge_channels.items() if channels)
        self.edge_heads = nnx.Dict(
            {_name(b): _Head(graph.edge_channels[b], width, rngs=rngs) for b in self.edge_blocks}
        )

    def __call__(self, t: Float[Array, ""], x: Weights) -> Weights:
        unit = dict(self.unit)
        scaled = {name: a / unit.get(name, 1.0) for name, a in x.items()}
        raw_nodes, raw_edges = self.graph.read(scaled)
        time = self.time(t)
        nodes = self.graph.pack_nodes(
            {name: self.node_encoders[name](a, time) for name, a in raw_nodes.items()}
        )
        encoded = {b: self.edge_encoders[_name(b)](a, time) for b, a in raw_edges.items()}
        # A network without hidden neurons, folded, is one node without edges.
        edges = self.graph.pack_edges(encoded) if encoded else jnp.zeros((0, nodes.shape[-1]))
        definition, parameters = nnx.split(self.layers)
        (nodes, edges), _ = jax.lax.scan(
            # Recomputing a layer costs less than keeping all that its gradient needs.
            jax.checkpoint(lambda state, p: (nnx.merge(definition, p)(self.graph, *state), None)),
            (nodes, edges),
            parameters,
        )
        n, e = self.graph.unpack_nodes(nodes), self.graph.unpack_edges(edges)
        out = self.graph.write(
            {g: head(n[g], raw_nodes[g], time) for g, head in self.node_heads.items()},
            {b: self.edge_heads[_name(b)](e[b], raw_edges[b], time) for b in self.edge_blocks},
        )
        return {name: a * unit.get(name, 1.0) for name, a in out.items()}


def _name(block: Block) -> str:
    return "->".join(block)


class _Encoder(nnx.Module):
    """Features of a set of nodes or edges: weights, position and time."""

    def __init__(self, channels: int, positions: int, width: int, *, rngs: nnx.Rngs):
        # Sets of one kind tell each other apart by this embedding, which is therefore not small.
        self.position = nnx.Param(jax.random.normal(rngs.params(), (positions, width)))
        self.time = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.weights = nnx.Linear(channels, width, use_bias=False, rngs=rngs) if channels else None

    def __call__(self, features: Array, time: Array) -> Array:
        constant = self.position[...] + self.time(time)[None]
        constant = constant.reshape((1,) * (features.ndim - 2) + constant.shape)
        shape = (*features.shape[:-1], constant.shape[-1])
        if self.weights is None:
            return jnp.broadcast_to(constant, shape)
        return self.weights(features) + constant


class _Head(nnx.Module):
    """Weights read off hidden features, plus the input weights times a gate that time opens.

    Starts as the identity. The gate passes the part of x_t that no prediction can know, which
    `width` features could not carry where a node has many more channels.
    """

    def __init__(self, channels: int, width: int, *, rngs: nnx.Rngs):
        zeros = nnx.initializers.zeros_init()
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.linear = nnx.Linear(width, channels, kernel_init=zeros, rngs=rngs)
        self.gate = nnx.Linear(
            width, channels, kernel_init=zeros, bias_init=nnx.initializers.ones_init(), rngs=rngs
        )

    def __call__(self, features: Array, raw: Array, time: Array) -> Array:
        gate = self.gate(time).reshape((1,) * (raw.ndim - 1) + (-1,))
        return self.linear(self.norm(features)) + gate * raw


class _Layer(nnx.Module):
    """Attention of every node to its neighbours, then updates of nodes and of edges."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.attention = _Attention(width, rngs=rngs)
        self.node_norm = nnx.LayerNorm(width, rngs=rngs)
        self.edge_norm = nnx.LayerNorm(width, rngs=rngs)
        self.mlp_norm = nnx.LayerNorm(width, rngs=rngs)
        self.node_mlp = _MLP(width, rngs=rngs)
        self.edge_mlp = _EdgeMLP(width, rngs=rngs)

    def __call__(self, graph: WeightGraph, nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
        if not graph.blocks:  # no neighbours at all
            return nodes + self.node_mlp(self.mlp_norm(nodes)), edges
        e = self.edge_norm(edges)
        nodes = nodes + self.attention(graph, self.node_norm(nodes), e)
        n = self.mlp_norm(nodes)
        return nodes + self.node_mlp(n), edges + self.edge_mlp(graph, n, e)


class _Attention(nnx.Module):
    """One joint softmax for each node over all its incoming and outgoing neighbours.

    With q_ij = n_i Qₙ + e_ij Qₑ, and k_ij, v_ij likewise from n_j (Diao & Loynd 2023, equations
    7 to 9), the logits q_ij·k_ij expand to n_i Qₙ·n_j Kₙ + e_ij·(e_ij Qₑ Kₑᵀ + n_i Qₙ Kₑᵀ +
    n_j Kₙ Qₑᵀ): one product with a matrix for each edge instead of two; and values are projected
    after they have been averaged, for each node and not for each edge.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        linear = lambda: nnx.Linear(width, width, use_bias=False, rngs=rngs)  # noqa: E731
        self.query, self.key, self.value = linear(), linear(), linear()
        self.incoming = _EdgeProjections(width, rngs=rngs)
        self.outgoing = _EdgeProjections(width, rngs=rngs)
        self.out = linear()

    def __call__(self, graph: WeightGraph, nodes: Nodes, edges: Edges) -> Nodes:
        unpack = graph.unpack_nodes
        query, key = self.query(nodes), self.key(nodes)
        queries, keys, values = unpack(query), unpack(key), unpack(self.value(nodes))
        into, out_of = self.incoming, self.outgoing
        e = graph.unpack_edges(edges)
        e_into = graph.unpack_edges(edges @ into.bilinear())
        e_out_of = graph.unpack_edges(edges @ out_of.bilinear())
        receiver, receiver_out = unpack(into.seen_by(query)), unpack(out_of.seen_from(key))
        sender, sender_out = unpack(into.seen_from(key)), unpack(out_of.seen_by(query))

        # For every set of nodes and each block at it: logits (node, neighbour), edges, values.
        receiving = {g: [] for g in graph.sizes}
        sending = {g: [] for g in graph.sizes}
        for s, r in graph.blocks:
            terms = e_into[s, r] + sender[s][:, None] + receiver[r][None]
            logits = (e[s, r] * terms).sum(-1).T + queries[r] @ keys[s].T
            receiving[r].append((logits, e[s, r].swapaxes(0, 1), values[s]))
            terms = e_out_of[s, r] + sender_out[s][:, None] + receiver_out[r][None]
            logits = (e[s, r] * terms).sum(-1) + queries[s] @ keys[r].T
            sending[s].append((logits, e[s, r], values[r]))
        scale = 1 / math.sqrt(nodes.shape[-1])
        parts = [_attend(receiving[g], sending[g], scale) for g in graph.sizes]
        value, received, sent = (jnp.concatenate(part) for part in zip(*parts, strict=True))
        return self.out(value + into.value(received) + out_of.value(sent))


def _attend(receiving: list, sending: list, scale: float) -> tuple[Array, Array, Array]:
    """Averages over one joint softmax: of values, of incoming and of outgoing edges."""
    blocks = receiving + sending
    stops = np.cumsum([logits.shape[1] for logits, _, _ in blocks])[:-1]
    shares = jax.nn.softmax(scale * jnp.concatenate([logits for logits, _, _ in blocks], 1), 1)
    shares = jnp.split(shares, stops, 1)
    zero = jnp.zeros((len(shares[0]), blocks[0][1].shape[-1]))
    value = sum((share @ v for share, (_, _, v) in zip(shares, blocks, strict=True)), zero)
    edges = [
        (share[:, :, None] * e).sum(1) for share, (_, e, _) in zip(shares, blocks, strict=True)
    ]
    return value, sum(edges[: len(receiving)], zero), sum(edges[len(receiving) :], zero)


class _EdgeProjections(nnx.Module):
    """How nodes see the edges of one direction: queries, keys and values of an edge."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        linear = lambda: nnx.Linear(width, width, use_bias=False, rngs=rngs)  # noqa: E731
        self.query, self.key, self.value = linear(), linear(), linear()

    def bilinear(self) -> Float[Array, "width width"]:
        """Qₑ Kₑᵀ."""
        return self.query.kernel[...] @ self.key.kernel[...].T

    def seen_by(self, query: Nodes) -> Nodes:
        """n_i Qₙ Kₑᵀ, from n_i Qₙ of the node that looks."""
        return query @ self.key.kernel[...].T

    def seen_from(self, key: Nodes) -> Nodes:
        """n_j Kₙ Qₑᵀ, from n_j Kₙ of the node that is looked at."""
        return key @ self.query.kernel[...].T


class _MLP(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, nodes: Nodes) -> Nodes:
        return self.down(jax.nn.gelu(self.up(nodes)))


class _EdgeMLP(nnx.Module):
    """Update of an edge from itself and its two nodes, without building their concatenation."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.edge = nnx.Linear(width, 2 * width, rngs=rngs)
        self.sender = nnx.Linear(width, 2 * width, use_bias=False, rngs=rngs)
        self.receiver = nnx.Linear(width, 2 * width, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, graph: WeightGraph, nodes: Nodes, edges: Edges) -> Edges:
        s, r = graph.unpack_nodes(self.sender(nodes)), graph.unpack_nodes(self.receiver(nodes))
        own = graph.unpack_edges(self.edge(edges))
        return graph.pack_edges(
            {
                (a, b): self.down(jax.nn.gelu(own[a, b] + s[a][:, None] + r[b][None]))
                for a, b in graph.blocks
            }
        )
