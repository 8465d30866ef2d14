"""Products of manifolds over a pytree."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from wfm.manifolds.base import Manifold, Point, Scalar, Tangent, safe_sqrt


def _is_factor(node: Any) -> bool:
    return isinstance(node, Manifold)


class Product(Manifold):
    """The product of `factors`: its points have the structure of that pytree."""

    factors: PyTree[Manifold]

    def map(self, of_factor: Callable[[Manifold], Any]) -> Any:
        """The results of `of_factor` for each factor, in their structure."""
        return jax.tree.map(of_factor, self.factors, is_leaf=_is_factor)

    def _map(self, method: str, *args: Any) -> Any:
        return jax.tree.map(
            lambda factor, *parts: getattr(factor, method)(*parts),
            self.factors,
            *args,
            is_leaf=_is_factor,
        )

    def _leaves(self) -> list[Manifold]:
        return jax.tree.leaves(self.factors, is_leaf=_is_factor)

    def _total(self, method: str, *args: Any) -> Any:
        return sum(jax.tree.leaves(self._map(method, *args)))

    @property
    def dim(self) -> int:
        return sum(factor.dim for factor in self._leaves())

    def exp(self, x: Point, v: Tangent) -> Point:
        return self._map("exp", x, v)

    def log(self, x: Point, y: Point) -> Tangent:
        return self._map("log", x, y)

    def inner(self, x: Point, u: Tangent, v: Tangent) -> Scalar:
        return self._total("inner", x, u, v)

    def dist(self, x: Point, y: Point) -> Scalar:
        # From the factors' distances, which may keep more digits than norms of logarithms.
        squares = [d**2 for d in jax.tree.leaves(self._map("dist", x, y))]
        return safe_sqrt(sum(squares, jnp.zeros(())))

    def squared_distances(self, x: Point, y: Point) -> Float[Array, "n m"]:
        return self._total("squared_distances", x, y)

    def transport(self, x: Point, y: Point, v: Tangent) -> Tangent:
        return self._map("transport", x, y, v)

    def project(self, x: Point) -> Point:
        return self._map("project", x)

    def off(self, x: Point) -> Scalar:
        return jnp.stack(jax.tree.leaves(self._map("off", x))).max()

    def to_tangent(self, x: Point, v: Tangent) -> Tangent:
        return self._map("to_tangent", x, v)

    def frame(self, x: Point, a: Point) -> Tangent:
        return self._map("frame", x, a)

    def log_volume(self, x: Point) -> Scalar:
        return self._total("log_volume", x)

    def _draws(self, method: str, key: Key[Array, ""]) -> Any:
        leaves, structure = jax.tree.flatten(self.factors, is_leaf=_is_factor)
        keys = jax.random.split(key, len(leaves))
        draws = (getattr(f, method)(k) for f, k in zip(leaves, keys, strict=True))
        return structure.unflatten(draws)

    @property
    def is_compact(self) -> bool:
        return all(factor.is_compact for factor in self._leaves())

    def uniform(self, key: Key[Array, ""]) -> Point:
        return self._draws("uniform", key)

    def log_total_volume(self) -> Scalar:
        return self._total("log_total_volume")

    def origin(self) -> Point:
        return self._map("origin")

    def normal(self, key: Key[Array, ""]) -> Tangent:
        return self._draws("normal", key)

    def log_stretch(self, x: Point) -> Scalar:
        return self._total("log_stretch", x)

    @property
    def is_vector_space(self) -> bool:
        return all(factor.is_vector_space for factor in self._leaves())

    def ambient(self) -> "Product":
        return Product(self._map("ambient"))
