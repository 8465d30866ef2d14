"""Distributions p₀ that a flow starts from."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Key

from wfm.errors import UserError
from wfm.manifolds import Manifold, Point
from wfm.manifolds.base import Scalar


class Prior(eqx.Module):
    """A distribution of single points, with a density where there is one in closed form."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""]) -> Point:
        """One draw."""

    @abc.abstractmethod
    def log_prob(self, x: Point) -> Scalar:
        """Log-density at `x`; raises `NotImplementedError` where none is known."""

    def gaussian(self) -> tuple[Any, Any]:
        """Mean and standard deviation by array, where entries are independent Gaussians."""
        raise NotImplementedError(
            f"draws of {type(self).__name__} are not Gaussian; use a Reference prior in flat space"
        )


class Reference(Prior):
    """The manifold's own distribution: uniform on spheres and tori, Gaussian in flat parts."""

    manifold: Manifold

    def sample(self, key: Key[Array, ""]) -> Point:
        return self.manifold.random(key)

    def log_prob(self, x: Point) -> Scalar:
        return self.manifold.log_prob_random(x)

    def gaussian(self) -> tuple[Any, Any]:
        return self.manifold.gaussian()


class Pushforward(Prior):
    """Draws of `base` sent through `map`, such as canonicalised Gaussian weights."""

    base: Prior
    map: Callable[[Point], Point] = eqx.field(static=True)

    def sample(self, key: Key[Array, ""]) -> Point:
        return self.map(self.base.sample(key))

    def describe(self) -> dict[str, Any]:
        raise UserError("the map of a Pushforward prior is code")

    def log_prob(self, x: Point) -> Scalar:
        raise NotImplementedError(
            "draws sent through a map have no known density; use a Reference prior for likelihoods"
        )
