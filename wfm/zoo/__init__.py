"""Zoos: base networks trained in bulk."""

from wfm.zoo.train import Schedule, train_zoo
from wfm.zoo.weight_set import WeightSet, count_held_out

__all__ = ["Schedule", "WeightSet", "count_held_out", "train_zoo"]
