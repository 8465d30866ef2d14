"""Zoos: base networks trained in bulk."""

from wfm.zoo.train import Schedule, train_zoo
from wfm.zoo.weight_set import WeightSet

__all__ = ["Schedule", "WeightSet", "train_zoo"]
