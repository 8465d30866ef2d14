"""Distributions that flows start from, with densities. Scales are data: leaves of the pytree."""

import abc
import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from wfm.checks import numbers
from wfm.errors import UserError
from wfm.manifolds import Manifold, Point, Product
from wfm.manifolds.base import Scalar

__all__ = ["Prior", "ProductPrior", "Pushforward", "Uniform", "WrappedNormal", "standard"]


class Prior(eqx.Module):
    """A distribution of single points, with a density if it has a closed form."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""]) -> Point:
        """One draw."""

    @abc.abstractmethod
    def log_prob(self, x: Point) -> Scalar:
        """Log-density at `x`, in nats, with respect to the Riemannian volume.

        Raises `NotImplementedError` if none is known.
        """

    def gaussian(self) -> tuple[Any, Any]:
        """Mean and standard deviation of each array, if its entries are independent Gaussians."""
        raise NotImplementedError(
            f"draws of {type(self).__name__} are not Gaussian, entry by entry; use a "
            "WrappedNormal prior in flat space"
        )


class Uniform(Prior):
    """The uniform distribution on a compact manifold."""

    manifold: Manifold

    def sample(self, key: Key[Array, ""]) -> Point:
        return self.manifold.uniform(key)

    def log_prob(self, x: Point) -> Scalar:
        return -self.manifold.log_total_volume()


def _float(a: Any) -> Array:
    """An array, so that other values need no other program."""
    return jnp.asarray(a, jnp.result_type(float, a))


class WrappedNormal(Prior):
    """exp_o(`mean` + `std` z), with z standard normal in the tangent space at the origin o.

    `std` is one number. In flat space this is a Gaussian, and `mean` is a number or an array.
    The density is that of the tangent vector divided by the Jacobian of the exponential map (Nagano
    et al. 2019, arXiv 1902.02992, section 3; Mathieu et al. 2019, arXiv 1901.06033, section 3.3).
    """

    manifold: Manifold
    std: Any = eqx.field(converter=_float, default=1.0)
    mean: Any = eqx.field(converter=_float, default=0.0)

    def __check_init__(self):
        std, mean = (numbers(a) for a in (self.std, self.mean))
        if std is not None and not (std.ndim == 0 and 0 < std < math.inf):
            raise UserError(
                f"std is a standard deviation: it must be finite and must be positive, got {std}"
            )
        if mean is None:
            return
        if not np.isfinite(mean).all():
            raise UserError(f"the mean of a prior must be finite, got {mean}")
        if mean.any() and not self._is_gaussian:
            raise UserError("only priors in flat space have a mean")

    @property
    def _is_gaussian(self) -> bool:
        """Whether no entry is constrained."""
        return self.manifold.is_vector_space and self.manifold.dim == entries(self.manifold)

    def sample(self, key: Key[Array, ""]) -> Point:
        z = self.manifold.normal(key)
        v = jax.tree.map(lambda z: self.mean + self.std * z, z)
        return self.manifold.exp(self.manifold.origin(), v)

    def log_prob(self, x: Point) -> Scalar:
        o = self.manifold.origin()
        z = jax.tree.map(lambda v: (v - self.mean) / self.std, self.manifold.log(o, x))
        scale = self.manifold.dim * jnp.log(self.std * math.sqrt(2 * math.pi))
        return -self.manifold.inner(o, z, z) / 2 - scale - self.manifold.log_stretch(x)

    def gaussian(self) -> tuple[Any, Any]:
        if not self._is_gaussian:
            return super().gaussian()
        like = jax.eval_shape(self.manifold.origin)
        mean, std = (jax.tree.map(lambda _, a=a: a, like) for a in (self.mean, self.std))
        return mean, std


def entries(manifold: Manifold) -> int:
    """The number of entries of a point of a manifold with an origin; no array is made."""
    like = jax.eval_shape(manifold.origin)
    return sum(math.prod(a.shape) for a in jax.tree.leaves(like))


class ProductPrior(Prior):
    """Independent draws from `factors`, in the same pytree."""

    factors: PyTree[Prior]

    def sample(self, key: Key[Array, ""]) -> Point:
        leaves, structure = jax.tree.flatten(self.factors, is_leaf=_is_prior)
        keys = jax.random.split(key, len(leaves))
        return structure.unflatten(f.sample(k) for f, k in zip(leaves, keys, strict=True))

    def log_prob(self, x: Point) -> Scalar:
        parts = jax.tree.map(lambda f, a: f.log_prob(a), self.factors, x, is_leaf=_is_prior)
        return sum(jax.tree.leaves(parts), jnp.zeros(()))

    def gaussian(self) -> tuple[Any, Any]:
        leaves, structure = jax.tree.flatten(self.factors, is_leaf=_is_prior)
        mean, std = zip(*(factor.gaussian() for factor in leaves), strict=True)
        return structure.unflatten(mean), structure.unflatten(std)


def _is_prior(node: Any) -> bool:
    return isinstance(node, Prior)


class Pushforward(Prior):
    """Draws from `base` mapped by `map`, such as canonicalised Gaussian weights."""

    base: Prior
    map: Callable[[Point], Point] = eqx.field(static=True)

    def sample(self, key: Key[Array, ""]) -> Point:
        return self.map(self.base.sample(key))

    def describe(self) -> dict[str, Any]:
        """Raise `UserError`, for the map cannot be saved."""
        raise UserError("the map of a Pushforward prior is code")

    def log_prob(self, x: Point) -> Scalar:
        raise NotImplementedError(
            "draws sent through a map have no known density; use a prior of the manifold's own "
            "for likelihoods"
        )


@singledispatch
def standard(manifold: Manifold, std: Any = 1.0) -> Prior:
    """Uniform on compact manifolds, else a wrapped normal; for products, factor by factor."""
    return Uniform(manifold) if manifold.is_compact else WrappedNormal(manifold, std)


@standard.register
def _(manifold: Product, std: Any = 1.0) -> Prior:
    return ProductPrior(manifold.map(lambda factor: standard(factor, std)))
