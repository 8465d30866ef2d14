"""Which x₀ is paired with which x₁ in training."""

import abc

import equinox as eqx
import jax
from jaxtyping import Array, Key

from wfm.flows.prior import Prior
from wfm.manifolds import Point


class Coupling(eqx.Module):
    """A way to pair data with draws of the prior; the one place that sees a batch as a whole."""

    @abc.abstractmethod
    def pair(self, prior: Prior, x1: Point, key: Key[Array, ""]) -> Point:
        """x₀ for each of the stacked points `x1`."""


class Independent(Coupling):
    """Fresh draws of the prior."""

    def pair(self, prior: Prior, x1: Point, key: Key[Array, ""]) -> Point:
        n = len(jax.tree.leaves(x1)[0])
        return jax.vmap(prior.sample)(jax.random.split(key, n))
