"""Principal neighbourhood aggregation over the graph of a network's weights."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from wfm.fields.graph import EdgeFeatures, Edges, Nodes, WeightGraph
from wfm.fields.graph_field import GraphField
from wfm.fields.linear import EdgeLinear
from wfm.fields.updates import EdgeMLP, NodeMLP, edge_norm

EPSILON = 1e-5  # of the variance, as in the authors' code
AGGREGATES, SCALERS = 4, 3


class PNALayer(nnx.Module):
    """Aggregation of messages from all neighbours, then updates of nodes and of edges.

    Corso et al. (2020, arXiv 2004.05718), equations 2 to 8: mean, standard deviation, maximum and
    minimum, each times identity, amplification and attenuation. Messages are linear in the edge
    and its two nodes, with separate maps for incoming and outgoing edges.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.node_norm = nnx.LayerNorm(width, rngs=rngs)
        self.edge_norm = edge_norm(width, rngs)
        self.mlp_norm = nnx.LayerNorm(width, rngs=rngs)
        self.incoming = _Message(width, rngs=rngs)
        self.outgoing = _Message(width, rngs=rngs)
        self.itself = nnx.Linear(width, width, rngs=rngs)
        self.out = nnx.Linear(AGGREGATES * SCALERS * width, width, use_bias=False, rngs=rngs)
        self.node_mlp = NodeMLP(width, rngs=rngs)
        self.edge_mlp = EdgeMLP(width, rngs=rngs)

    def __call__(self, graph: WeightGraph, nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
        if not graph.blocks:  # no neighbours at all
            return nodes + self.node_mlp(self.mlp_norm(nodes)), edges
        n, e = self.node_norm(nodes), self.edge_norm(edges)
        to_receiver = graph.unpack_edges(self.incoming(graph, n, e))
        to_sender = graph.unpack_edges(self.outgoing(graph, n, e))
        heard = aggregate(graph, to_receiver, to_sender)
        nodes = nodes + self.itself(n) + self.out(scaled(graph, heard))
        n = self.mlp_norm(nodes)
        return nodes + self.node_mlp(n), edges + self.edge_mlp(graph, n, e)


class PNA(GraphField):
    """Neurons that aggregate messages from the weights and neurons around them.

    Corso et al. (2020, arXiv 2004.05718), with updates of edges, on neural graphs as in Kofinas
    et al. (2024, arXiv 2403.12143). Cost grows with the number of weights.
    """

    layer = PNALayer


class _Message(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.edge = EdgeLinear(width, width, use_bias=False, rngs=rngs)
        self.sender = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.receiver = nnx.Linear(width, width, use_bias=False, rngs=rngs)

    def __call__(self, graph: WeightGraph, nodes: Nodes, edges: Edges) -> Edges:
        return self.edge(edges) + graph.pairs(self.sender(nodes), self.receiver(nodes))


def aggregate(
    graph: WeightGraph, to_receiver: EdgeFeatures, to_sender: EdgeFeatures
) -> Float[Array, "nodes aggregates"]:
    """Mean, standard deviation, maximum and minimum of the messages that each node receives."""
    heard = {g: [] for g in graph.sizes}
    for s, r in graph.blocks:
        heard[r].append((to_receiver[s, r], 0))
        heard[s].append((to_sender[s, r], 1))
    return graph.pack_nodes({g: _aggregate(messages) for g, messages in heard.items()})


def _aggregate(messages: list[tuple[Array, int]]) -> Float[Array, "nodes aggregates"]:
    """Aggregates over all blocks of (messages, axis of the neighbours)."""
    count = sum(m.shape[axis] for m, axis in messages)
    mean = sum(m.sum(axis) for m, axis in messages) / count
    square = sum((m**2).sum(axis) for m, axis in messages) / count
    deviation = jnp.sqrt(jax.nn.relu(square - mean**2) + EPSILON)
    most = jnp.stack([m.max(axis) for m, axis in messages]).max(0)
    least = jnp.stack([m.min(axis) for m, axis in messages]).min(0)
    return jnp.concatenate([mean, deviation, most, least], 1)


def scaled(
    graph: WeightGraph, aggregates: Float[Array, "nodes aggregates"]
) -> Float[Array, "nodes scaled"]:
    """Aggregates unscaled, amplified, and attenuated by the node's number of neighbours."""
    degrees = dict.fromkeys(graph.sizes, 0)
    for s, r in graph.blocks:
        degrees[s] += graph.sizes[r]
        degrees[r] += graph.sizes[s]
    logs = np.log1p(np.repeat(list(degrees.values()), list(graph.sizes.values())))
    scale = jnp.asarray(logs / logs.mean(), aggregates.dtype)[:, None]
    return jnp.concatenate([aggregates, aggregates * scale, aggregates / scale], 1)
