"""The graph of a network's weights, as dense blocks derived from the labels of a `WeightSpec`."""

import dataclasses
import itertools
import math
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wfm.errors import UserError
from wfm.weights import Weights, WeightSpec

GLOBAL = "global"

Nodes = Float[Array, "nodes width"]  # all sets of nodes, stacked
Edges = Float[Array, "edges width"]  # all blocks of edges, stacked, one row per edge

Block = tuple[str, str]
NodeFeatures = dict[str, Float[Array, "_ _"]]
EdgeFeatures = dict[Block, Float[Array, "_ _ _"]]


@dataclasses.dataclass(frozen=True, eq=False)
class WeightGraph:
    """Neurons as nodes, weights as the channels of nodes and of edges between them.

    An array with two labelled axes is a dense block of edges; an array with a single label gives
    node channels. Other axes are channels too. With `fold`, groups that cannot be permuted (inputs,
    outputs) have no nodes: their axes become channels of the neurons they touch. Whatever then
    touches no neuron, such as a folded network's output biases, becomes channels of one global
    node, which has an edge without weights to every other node.
    """

    spec: WeightSpec
    fold: bool = False

    def __post_init__(self):
        for name in self.spec.arrays:
            if len(self._nodes_of(name)) > 2:
                raise UserError(f"array {name!r} joins more than two groups: no edge can carry it")

    @cached_property
    def labels(self) -> tuple[tuple, tuple]:
        """The labels that the graph is made from, which distinguish it from others of its class."""
        groups = ((name, self.spec.groups[name]) for name in self.spec.orders)
        sizes = tuple((name, group.size, group.permutable) for name, group in groups)
        return sizes, tuple((name, self.spec.axes(name)) for name in self.spec.arrays)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, WeightGraph)
            and type(self) is type(other)
            and (self.labels, self.fold) == (other.labels, other.fold)
        )

    def __hash__(self) -> int:
        return hash((self.labels, self.fold))

    def _nodes_of(self, name: str) -> dict[int, str]:
        """The axes of an array that run over nodes: position to set of nodes."""
        kept = self.spec.permutable if self.fold else self.spec.orders
        return {axis: group for axis, group in self.spec.labels(name).items() if group in kept}

    def _members(self, key: tuple[str, ...]) -> list[str]:
        """Arrays whose node axes run over exactly the groups `key`."""
        return [name for name in self.spec.arrays if tuple(self._nodes_of(name).values()) == key]

    def _channels(self, key: tuple[str, ...]) -> int:
        return sum(math.prod(self._channel_shape(name)) for name in self._members(key))

    def _channel_shape(self, name: str) -> tuple[int, ...]:
        nodes = self._nodes_of(name)
        return tuple(n for axis, n in enumerate(self.spec.shape(name)) if axis not in nodes)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of nodes in every set of nodes."""
        names = self.spec.permutable if self.fold else self.spec.orders
        sizes = {name: self.spec.groups[name].size for name in names}
        return sizes | ({GLOBAL: 1} if self._members(()) else {})

    @cached_property
    def node_channels(self) -> dict[str, int]:
        """Number of weights at every node of each set."""
        return {name: self._channels(() if name == GLOBAL else (name,)) for name in self.sizes}

    @cached_property
    def edge_channels(self) -> dict[Block, int]:
        """Number of weights on every edge of each block (from, to)."""
        keys = [tuple(self._nodes_of(name).values()) for name in self.spec.arrays]
        blocks = {key: self._channels(key) for key in keys if len(key) == 2}
        return blocks | {key: 0 for key in self._without_weights() if key not in blocks}

    def _without_weights(self) -> list[Block]:
        """Blocks of edges that only connect nodes, without weights."""
        return [(GLOBAL, name) for name in self.sizes if GLOBAL in self.sizes and name != GLOBAL]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of edges, each between two sets of nodes: (from, to)."""
        return tuple(self.edge_channels)

    def read(self, weights: Weights) -> tuple[NodeFeatures, EdgeFeatures]:
        """Weights laid out on nodes and edges."""
        nodes = {
            name: self._read(weights, () if name == GLOBAL else (name,), (size,))
            for name, size in self.sizes.items()
        }
        edges = {
            block: self._read(weights, block, (self.sizes[block[0]], self.sizes[block[1]]))
            for block in self.edge_channels
        }
        return nodes, edges

    def _read(self, weights: Weights, key: tuple[str, ...], shape: tuple[int, ...]) -> Array:
        parts = []
        for name in self._members(key):
            kept = tuple(self._nodes_of(name))
            array = jnp.moveaxis(weights[name], kept, range(len(kept)))
            parts.append(array.reshape(*shape, math.prod(self._channel_shape(name))))
        return jnp.concatenate(parts, -1) if parts else jnp.zeros((*shape, 0))

    def write(self, nodes: NodeFeatures, edges: EdgeFeatures) -> Weights:
        """The inverse of `read`."""
        weights = {}
        for name, features in nodes.items():
            weights |= self._write(() if name == GLOBAL else (name,), features)
        for block, features in edges.items():
            weights |= self._write(block, features)
        return {name: weights[name] for name in self.spec.arrays}

    def _write(self, key: tuple[str, ...], features: Array) -> Weights:
        weights, start = {}, 0
        for name in self._members(key):
            shape, kept = self._channel_shape(name), tuple(self._nodes_of(name))
            stop = start + math.prod(shape)
            sizes = tuple(self.spec.shape(name)[i] for i in kept)
            array = features[..., start:stop].reshape(*sizes, *shape)
            weights[name] = jnp.moveaxis(array, range(len(kept)), kept)
            start = stop
        return weights

    # All nodes, and all edges, are in one array each. Code that treats all of them alike then works
    # on one large matrix instead of many small ones, and compiles as one operation.

    def pack_nodes(self, nodes: NodeFeatures) -> Float[Array, "nodes channels"]:
        """All sets of nodes, stacked."""
        return jnp.concatenate([nodes[name] for name in self.sizes])

    def unpack_nodes(self, nodes: Float[Array, "nodes channels"]) -> NodeFeatures:
        """The inverse of `pack_nodes`."""
        stops = np.cumsum(list(self.sizes.values()))[:-1]
        return dict(zip(self.sizes, jnp.split(nodes, stops), strict=True))

    def pack_edges(self, edges: EdgeFeatures) -> Float[Array, "edges channels"]:
        """All blocks of edges, stacked, one row per edge."""
        return jnp.concatenate([edges[b].reshape(-1, edges[b].shape[-1]) for b in self.blocks])

    def unpack_edges(self, edges: Float[Array, "edges channels"]) -> EdgeFeatures:
        """The inverse of `pack_edges`."""
        shapes = [(self.sizes[s], self.sizes[r]) for s, r in self.blocks]
        stops = np.cumsum([n * m for n, m in shapes])[:-1]
        parts = jnp.split(edges, stops) if shapes else []
        return {
            block: part.reshape(*shape, edges.shape[-1])
            for block, shape, part in zip(self.blocks, shapes, parts, strict=True)
        }

    def pairs(self, of_sender: Nodes, of_receiver: Nodes) -> Edges:
        """For each edge, the sum of the features of its two nodes."""
        s, r = self.unpack_nodes(of_sender), self.unpack_nodes(of_receiver)
        return self.pack_edges({(a, b): s[a][:, None] + r[b][None] for a, b in self.blocks})


@dataclasses.dataclass(frozen=True, eq=False)
class CompleteGraph(WeightGraph):
    """Every node joined to every node, in both directions and itself included.

    Edges are packed as the rows of a matrix of (from, to), with nodes in the order of `sizes`.
    """

    def _without_weights(self) -> list[Block]:
        return list(itertools.product(self.sizes, self.sizes))

    def pack_edges(self, edges: EdgeFeatures) -> Edges:
        rows = [jnp.concatenate([edges[s, r] for r in self.sizes], 1) for s in self.sizes]
        matrix = jnp.concatenate(rows)
        return matrix.reshape(-1, matrix.shape[-1])

    def unpack_edges(self, edges: Edges) -> EdgeFeatures:
        n, stops = sum(self.sizes.values()), np.cumsum(list(self.sizes.values()))[:-1]
        rows = jnp.split(edges.reshape(n, n, -1), stops)
        return {
            (s, r): block
            for s, row in zip(self.sizes, rows, strict=True)
            for r, block in zip(self.sizes, jnp.split(row, stops, 1), strict=True)
        }

    def pairs(self, of_sender: Nodes, of_receiver: Nodes) -> Edges:
        return (of_sender[:, None] + of_receiver[None]).reshape(-1, of_sender.shape[-1])
