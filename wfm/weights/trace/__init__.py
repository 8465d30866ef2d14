"""Labels of a network's weights, found from what it computes."""

from wfm.weights.trace.tracing import trace

__all__ = ["trace"]
