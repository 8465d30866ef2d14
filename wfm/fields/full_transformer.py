"""The Relational Transformer over all pairs of neurons, as published for neural graphs."""

import math

from flax import nnx

from wfm.fields.graph import CompleteGraph, Edges, Nodes, WeightGraph
from wfm.fields.graph_field import GraphField
from wfm.fields.linear import EdgeLinear
from wfm.fields.relational_transformer import EdgeProjections, softmax
from wfm.fields.updates import EdgeMLP, NodeMLP, edge_norm


class FullLayer(nnx.Module):
    """Attention of every node to all nodes, then updates of nodes and of all pairs.

    The update of an edge uses the edge itself, its reverse and its two nodes.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        linear = lambda: nnx.Linear(width, width, use_bias=False, rngs=rngs)  # noqa: E731
        self.node_norm = nnx.LayerNorm(width, rngs=rngs)
        self.edge_norm = edge_norm(width, rngs)
        self.mlp_norm = nnx.LayerNorm(width, rngs=rngs)
        self.query, self.key, self.value, self.out = linear(), linear(), linear(), linear()
        self.seen = EdgeProjections(width, rngs=rngs)
        self.node_mlp = NodeMLP(width, rngs=rngs)
        self.edge_mlp = EdgeMLP(width, rngs=rngs)
        self.reverse = EdgeLinear(width, 2 * width, use_bias=False, rngs=rngs)

    def __call__(self, graph: WeightGraph, nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
        e, count = self.edge_norm(edges), len(nodes)
        nodes = nodes + self._attention(graph, self.node_norm(nodes), e)
        n = self.mlp_norm(nodes)
        reverse = self.reverse(e).reshape(count, count, -1).swapaxes(0, 1)
        change = self.edge_mlp(graph, n, e, reverse.reshape(count**2, -1))
        return nodes + self.node_mlp(n), edges + change

    def _attention(self, graph: WeightGraph, nodes: Nodes, edges: Edges) -> Nodes:
        query, key, count = self.query(nodes), self.key(nodes), len(nodes)
        seen = graph.pairs(self.seen.seen_from(key), self.seen.seen_by(query))
        logits = self.seen.logits(edges, seen).reshape(count, count) + key @ query.T
        shares = softmax(logits / math.sqrt(nodes.shape[-1]), 0)  # (from, to)
        received = (shares[..., None] * edges.reshape(count, count, -1)).sum(0)
        return self.out(shares.T @ self.value(nodes) + self.seen.value(received))


class FullTransformer(GraphField):
    """Attention between all neurons, modulated by the edges between them, even without weights.

    Diao & Loynd (2023, arXiv 2210.05062), as Kofinas et al. (2024, arXiv 2403.12143) and Erdogan
    (2025, arXiv 2504.03710) use it. Cost grows with the number of pairs of neurons.
    """

    layer = FullLayer
    graph_of = CompleteGraph
