"""Vector-field networks."""

from wfm.fields.functional import functional
from wfm.fields.graph import WeightGraph
from wfm.fields.mlp import MLPField
from wfm.fields.relational_transformer import RelationalTransformer

__all__ = ["MLPField", "RelationalTransformer", "WeightGraph", "functional"]
