"""What each operation of JAX does to neurons and their factors, by primitive."""

from wfm.weights.tracing.rules import entries, functions, lookups, products, reductions, shapes
from wfm.weights.tracing.rules.table import RULES, unknown

_REGISTERED = (entries, functions, lookups, products, reductions, shapes)  # by their import

__all__ = ["RULES", "unknown"]
