"""Updates of single nodes and single edges, shared by all kinds of layers."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from wfm.fields.graph import Edges, Nodes, WeightGraph
from wfm.fields.linear import EdgeLinear


class NodeMLP(nnx.Module):
    """Update of a node from itself."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, nodes: Nodes) -> Nodes:
        return self.down(jax.nn.gelu(self.up(nodes)))


class EdgeMLP(nnx.Module):
    """Update of an edge from itself and its two nodes, without building their concatenation.

    `more`: what else enters the hidden layer of each edge. Only nodes, which are few, have biases.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.edge = EdgeLinear(width, 2 * width, use_bias=False, rngs=rngs)
        self.sender = nnx.Linear(width, 2 * width, use_bias=False, rngs=rngs)
        self.receiver = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = EdgeLinear(2 * width, width, use_bias=False, rngs=rngs)

    def __call__(
        self,
        graph: WeightGraph,
        nodes: Nodes,
        edges: Edges,
        more: Float[Array, "edges hidden"] | None = None,
    ) -> Edges:
        hidden = self.edge(edges) + graph.pairs(self.sender(nodes), self.receiver(nodes))
        return self.down(jax.nn.gelu(hidden if more is None else hidden + more))


def edge_norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Normalises each edge; later maps provide scales, and nodes provide offsets."""
    return nnx.LayerNorm(width, use_bias=False, use_scale=False, rngs=rngs)
