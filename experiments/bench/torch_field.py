"""The Relational Transformer over all pairs of neurons in PyTorch, as a rival of this code.

It is the same function as `wfm.fields.FullTransformer`, in its published form: queries, keys and
values of every pair, batched over networks, without loops over them.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wfm.fields import FullTransformer
from wfm.fields.embedding import FREQUENCIES
from wfm.fields.graph import GLOBAL

EPSILON = 1e-6  # of flax's norms


class Layer(nn.Module):
    """Attention of every node to all nodes, then updates of nodes and of pairs [from, to]."""

    def __init__(self, width: int):
        super().__init__()
        self.node_norm = nn.LayerNorm(width, EPSILON)
        self.edge_norm = nn.LayerNorm(width, EPSILON, elementwise_affine=False)
        self.mlp_norm = nn.LayerNorm(width, EPSILON)
        self.node_qkv = nn.Linear(width, 3 * width, bias=False)
        self.edge_qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.node_up = nn.Linear(width, 2 * width)
        self.node_down = nn.Linear(2 * width, width)
        self.edge_up = nn.Linear(width, 2 * width, bias=False)
        self.reverse_up = nn.Linear(width, 2 * width, bias=False)
        self.sender_up = nn.Linear(width, 2 * width, bias=False)
        self.receiver_up = nn.Linear(width, 2 * width)
        self.edge_down = nn.Linear(2 * width, width, bias=False)

    def forward(self, nodes: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        e = self.edge_norm(edges)
        query, key, value = self.node_qkv(self.node_norm(nodes)).chunk(3, -1)
        edge_query, edge_key, edge_value = self.edge_qkv(e).chunk(3, -1)
        logits = ((query[:, None] + edge_query) * (key[:, :, None] + edge_key)).sum(-1)
        shares = (logits / math.sqrt(nodes.shape[-1])).softmax(1)
        seen = (shares[..., None] * (value[:, :, None] + edge_value)).sum(1)
        nodes = nodes + self.out(seen)
        n = self.mlp_norm(nodes)
        hidden = self.edge_up(e) + self.reverse_up(e).transpose(1, 2)
        hidden = hidden + self.sender_up(n)[:, :, None] + self.receiver_up(n)[:, None]
        nodes = nodes + self.node_down(_gelu(self.node_up(n)))
        return nodes, edges + self.edge_down(_gelu(hidden))


class Encoder(nn.Module):
    """Features of a set of nodes or pairs: weights, position and time."""

    def __init__(self, channels: int, positions: int, width: int):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(positions, width))
        self.time = nn.Linear(width, width, bias=False)
        self.weights = nn.Linear(channels, width, bias=False) if channels else None

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        constant = self.time(time)[:, None] + self.position  # (batch, positions, width)
        if features.dim() == 4:
            constant = constant[:, None]
        if self.weights is None:
            return constant.expand(*features.shape[:-1], -1)
        return self.weights(features) + constant


class Head(nn.Module):
    """Weights read from features, plus input weights times a time-dependent gate."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, EPSILON)
        self.linear = nn.Linear(width, channels)
        self.gate = nn.Linear(width, channels)

    def forward(self, features: Tensor, raw: Tensor, time: Tensor) -> Tensor:
        gate = self.gate(time).reshape(len(time), *[1] * (raw.dim() - 2), -1)
        return self.linear(self.norm(features)) + gate * raw


class DenseTransformer(nn.Module):
    """Field `(t, x)` over batches of networks whose arrays only run over groups of neurons.

    It copies the parameters of a `FullTransformer` without folding or units.
    """

    def __init__(self, field: FullTransformer):
        super().__init__()
        graph, spec = field.graph, field.graph.spec
        width = field.time.out.kernel[...].shape[1]
        self.sizes = dict(graph.sizes)
        keys = {name: tuple(spec.labels(name).values()) for name in spec.arrays}
        self.of_node = {
            name: key[0] if key else GLOBAL for name, key in keys.items() if len(key) < 2
        }
        self.of_edge = {name: key for name, key in keys.items() if len(key) == 2}
        self.time_up = nn.Linear(2 * FREQUENCIES, width)
        self.time_out = nn.Linear(width, width)
        position = lambda encoder: encoder.position[...].shape[0]  # noqa: E731
        self.node_encoders = nn.ModuleDict(
            {
                g: Encoder(graph.node_channels[g], position(e), width)
                for g, e in field.node_encoders.items()
            }
        )
        self.edge_encoders = nn.ModuleDict(
            {f"{s}->{r}": Encoder(graph.edge_channels[s, r], 1, width) for s, r in graph.blocks}
        )
        self.layers = nn.ModuleList(Layer(width) for _ in range(field.depth))
        self.node_heads = nn.ModuleDict(
            {g: Head(graph.node_channels[g], width) for g in field.node_heads}
        )
        self.edge_heads = nn.ModuleDict({b: Head(1, width) for b in field.edge_heads})
        self._copy(field)

    def forward(self, t: Tensor, x: dict[str, Tensor]) -> dict[str, Tensor]:
        time = self._time(t)
        batch, stops = len(t), list(self.sizes.values())
        raw_nodes = {g: x[a].reshape(batch, -1, 1) for a, g in self.of_node.items()}
        raw_edges = {key: x[a][..., None] for a, key in self.of_edge.items()}
        nodes = torch.cat(
            [
                self.node_encoders[g](raw_nodes.get(g, x_none(x, batch, n)), time)
                for g, n in self.sizes.items()
            ],
            1,
        )
        rows = [
            torch.cat(
                [
                    self.edge_encoders[f"{s}->{r}"](
                        raw_edges.get((s, r), x_none(x, batch, n, m)), time
                    )
                    for r, m in self.sizes.items()
                ],
                2,
            )
            for s, n in self.sizes.items()
        ]
        edges = torch.cat(rows, 1)
        for layer in self.layers:
            nodes, edges = layer(nodes, edges)
        of_set = dict(zip(self.sizes, nodes.split(stops, 1), strict=True))
        out = {}
        for a, g in self.of_node.items():
            out[a] = self.node_heads[g](of_set[g], raw_nodes[g], time).reshape(x[a].shape)
        for (a, (s, r)), block in zip(self.of_edge.items(), self._blocks(edges), strict=True):
            out[a] = self.edge_heads[f"{s}->{r}"](block, raw_edges[s, r], time)[..., 0]
        return out

    def _time(self, t: Tensor) -> Tensor:
        angles = math.pi * torch.arange(1, FREQUENCIES + 1) * t[:, None]
        return self.time_out(_gelu(self.time_up(torch.cat([angles.cos(), angles.sin()], -1))))

    def _blocks(self, edges: Tensor) -> list[Tensor]:
        starts = dict(zip(self.sizes, np.cumsum([0, *self.sizes.values()]).tolist(), strict=False))
        span = lambda g: slice(starts[g], starts[g] + self.sizes[g])  # noqa: E731
        return [edges[:, span(s), span(r)] for s, r in self.of_edge.values()]

    @torch.no_grad()
    def _copy(self, field: FullTransformer) -> None:
        _linear(self.time_up, field.time.up)
        _linear(self.time_out, field.time.out)
        for ours, theirs in (
            (self.node_encoders, field.node_encoders),
            (self.edge_encoders, field.edge_encoders),
        ):
            for name, encoder in theirs.items():
                _set(ours[name].position, encoder.position[...])
                _linear(ours[name].time, encoder.time)
                if encoder.weights is not None:
                    _linear(ours[name].weights, encoder.weights)
        for ours, theirs in (
            (self.node_heads, field.node_heads),
            (self.edge_heads, field.edge_heads),
        ):
            for name, head in theirs.items():
                _norm(ours[name].norm, head.norm)
                _linear(ours[name].linear, head.linear)
                _linear(ours[name].gate, head.gate)
        for i, layer in enumerate(self.layers):
            _copy_layer(layer, field.layers, i)


def x_none(x: dict[str, Tensor], *shape: int) -> Tensor:
    """Features of nodes or pairs that carry no weights."""
    return next(iter(x.values())).new_zeros(*shape, 0)


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")  # like jax.nn.gelu


def _copy_layer(ours: Any, theirs: Any, i: int) -> None:
    kernel = lambda linear: np.asarray(linear.kernel[...][i])  # noqa: E731
    qkv = lambda m: np.concatenate([kernel(m.query), kernel(m.key), kernel(m.value)], 1)  # noqa: E731
    _set(ours.node_qkv.weight, qkv(theirs).T)
    _set(ours.edge_qkv.weight, qkv(theirs.seen).T)
    _norm(ours.node_norm, theirs.node_norm, i)
    _norm(ours.mlp_norm, theirs.mlp_norm, i)
    edge = theirs.edge_mlp
    for linear, source in (
        (ours.out, theirs.out),
        (ours.node_up, theirs.node_mlp.up),
        (ours.node_down, theirs.node_mlp.down),
        (ours.edge_up, edge.edge),
        (ours.reverse_up, theirs.reverse),
        (ours.sender_up, edge.sender),
        (ours.receiver_up, edge.receiver),
        (ours.edge_down, edge.down),
    ):
        _linear(linear, source, i)


def _linear(ours: Any, theirs: Any, i: Any = ...) -> None:
    _set(ours.weight, np.asarray(theirs.kernel[...][i]).T)
    if ours.bias is not None:
        _set(ours.bias, theirs.bias[...][i])


def _norm(ours: Any, theirs: Any, i: Any = ...) -> None:
    _set(ours.weight, theirs.scale[...][i])
    _set(ours.bias, theirs.bias[...][i])


def _set(parameter: Tensor, values: Any) -> None:
    parameter.copy_(torch.from_numpy(np.array(values, np.float32)))
