"""Optimal transport between two sets of the same size, with equal weights."""

from wfm.ot.assignment import best_assignment
from wfm.ot.sinkhorn import marginal_error, sinkhorn, to_doubly_stochastic

__all__ = ["best_assignment", "marginal_error", "sinkhorn", "to_doubly_stochastic"]
