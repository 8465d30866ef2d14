"""Optimal transport between two sets of equally many, equally weighted things."""

from wfm.ot.assignment import best_assignment
from wfm.ot.sinkhorn import sinkhorn

__all__ = ["best_assignment", "sinkhorn"]
