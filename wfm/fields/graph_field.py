"""The common part of all vector fields on the graph of a network's weights."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from wfm.errors import UserError
from wfm.fields.embedding import TimeEmbedding
from wfm.fields.functional import Constant
from wfm.fields.graph import Block, Edges, Nodes, WeightGraph
from wfm.weights import Group, Weights, WeightSpec


class Layer(Protocol):
    """One round of updates of all nodes and edges, packed as in the graph."""

    def __call__(self, graph: WeightGraph, nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]: ...


class GraphField(nnx.Module):
    """Vector field over weights: encoders, layers of one kind, and heads for each set of weights.

    A final class gives the `layer` that it stacks, made by `layer(width, rngs=rngs)`, and the
    `graph` that the layers work on.

    `spec`: the architecture of the weights (a `WeightForm`'s `spec`). `width`, `depth`: the number
    of features of each node and edge, and of layers. `fold`: see `WeightGraph`. `own_embedding`:
    groups whose neurons get one embedding each, by default those with a fixed order; the field is
    equivariant to permutations of all other groups. `unit`: the typical size of the entries of each
    array, by which inputs are divided and outputs multiplied. `dtype`: the type of the layers'
    features and products, such as `jnp.bfloat16`; parameters, encoders and heads stay as they are.

    The parameters fit any size of groups that have nodes but no embeddings of their own.
    """

    layer: ClassVar
    graph_of: ClassVar = WeightGraph

    def __init__(
        self,
        spec: WeightSpec,
        *,
        width: int = 32,
        depth: int = 3,
        fold: bool = False,
        own_embedding: Collection[str] | None = None,
        unit: Mapping[str, float] | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        own = spec.fixed if own_embedding is None else own_embedding
        unknown = own if isinstance(own, str) else [g for g in own if g not in spec.orders]
        if unknown:
            raise UserError(
                f"own_embedding names groups of neurons, but no {unknown!r}; choose some of "
                f"{spec.orders}"
            )
        own = tuple(name for name in spec.orders if name in own)
        self.graph = graph = self.graph_of(spec, fold)
        self.unit = _unit(spec, unit)
        self.width, self.depth = width, depth
        self.own_embedding = own
        self.dtype = jnp.dtype(dtype)
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
        make = nnx.vmap(lambda rngs: self.layer(width, rngs=rngs), in_axes=0, out_axes=0)
        self.layers = make(rngs.split(depth))
        self.node_heads = nnx.Dict(
            {name: _Head(c, width, rngs=rngs) for name, c in graph.node_channels.items() if c}
        )
        self.edge_blocks = tuple(b for b, channels in graph.edge_channels.items() if channels)
        self.edge_heads = nnx.Dict(
            {_name(b): _Head(graph.edge_channels[b], width, rngs=rngs) for b in self.edge_blocks}
        )

    def __call__(self, t: Float[Array, ""], x: Weights) -> Weights:
        graph = self.graph
        unit = dict(zip(graph.spec.arrays, self.unit[...], strict=True))
        scaled = {name: a / unit[name].astype(a.dtype) for name, a in x.items()}
        raw_nodes, raw_edges = graph.read(scaled)
        time = self.time(t)
        nodes = graph.pack_nodes(
            {name: self.node_encoders[name](a, time) for name, a in raw_nodes.items()}
        )
        encoded = {b: self.edge_encoders[_name(b)](a, time) for b, a in raw_edges.items()}
        # A folded network without hidden neurons is one node without edges.
        edges = graph.pack_edges(encoded) if encoded else jnp.zeros((0, nodes.shape[-1]))
        nodes, edges = self._through_layers(nodes, edges)
        n, e = graph.unpack_nodes(nodes), graph.unpack_edges(edges)
        out = graph.write(
            {g: head(n[g], raw_nodes[g], time) for g, head in self.node_heads.items()},
            {b: self.edge_heads[_name(b)](e[b], raw_edges[b], time) for b in self.edge_blocks},
        )
        return {name: a * unit[name].astype(a.dtype) for name, a in out.items()}

    def _through_layers(self, nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
        # A loop, because a scan would copy all that the gradient needs into stacked arrays.
        definition, stacked = nnx.split(self.layers)
        leaves, structure = jax.tree.flatten(stacked)
        of_layers = zip(*[jnp.split(a.astype(self.dtype), self.depth) for a in leaves], strict=True)
        n, e = nodes.astype(self.dtype), edges.astype(self.dtype)
        for of_layer in of_layers:
            params = jax.tree.unflatten(structure, [a.squeeze(0) for a in of_layer])
            n, e = nnx.merge(definition, params)(self.graph, n, e)
        return n.astype(nodes.dtype), e.astype(edges.dtype)

    def describe(self) -> dict[str, Any]:
        """The arguments from which `made_from` makes a field of this kind."""
        return {
            "labels": self.graph.labels,
            "width": self.width,
            "depth": self.depth,
            "fold": self.graph.fold,
            "own_embedding": self.own_embedding,
            "unit": dict(zip(self.graph.spec.arrays, self.unit.numbers(), strict=True)),
            "dtype": self.dtype.name,
        }

    @classmethod
    def made_from(cls, labels: tuple[tuple, tuple], **options: Any) -> "GraphField":
        """A field of this kind, with shapes in place of parameters.

        The graph needs only the labels of an architecture, so its function is not kept.
        """
        groups, arrays = labels
        spec = WeightSpec(
            groups={name: Group(size, permutable) for name, size, permutable in groups},
            arrays=dict(arrays),
            activations=_unknown,
        )
        field = nnx.eval_shape(lambda: cls(spec, rngs=nnx.Rngs(0), **options))
        field.unit = _unit(spec, options.get("unit"))
        return field


def _unit(spec: WeightSpec, unit: Mapping[str, float] | None) -> Constant:
    return Constant(jnp.array([(unit or {}).get(name, 1.0) for name in spec.arrays]))


def _unknown(weights: Weights, x: Array) -> dict[str, Array]:
    raise NotImplementedError("a field that was loaded knows its network's labels alone")


def _name(block: Block) -> str:
    return "->".join(block)


class _Encoder(nnx.Module):
    """Features of a set of nodes or edges: weights, position and time."""

    def __init__(self, channels: int, positions: int, width: int, *, rngs: nnx.Rngs):
        # This embedding distinguishes sets of one kind, and is therefore not small.
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
    """Weights read from hidden features, plus input weights times a time-dependent gate.

    It starts as the identity. The gate passes the part of x_t that no prediction can know, which
    `width` features could not carry if a node has many more channels.
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
