"""Labels of a network's weights, found from what it computes."""

from wfm.weights.tracing.traced import trace

__all__ = ["trace"]
