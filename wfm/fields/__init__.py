"""Networks that represent vector fields."""

from wfm.fields.full_transformer import FullTransformer
from wfm.fields.functional import Bound, functional
from wfm.fields.graph import CompleteGraph, WeightGraph
from wfm.fields.graph_field import GraphField
from wfm.fields.mlp import MLPField
from wfm.fields.pna import PNA
from wfm.fields.relational_transformer import RelationalTransformer

__all__ = [
    "PNA",
    "Bound",
    "CompleteGraph",
    "FullTransformer",
    "GraphField",
    "MLPField",
    "RelationalTransformer",
    "WeightGraph",
    "functional",
]
