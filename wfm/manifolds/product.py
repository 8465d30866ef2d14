"""Products of manifolds over a pytree."""

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
        # From the factors' own, which may keep more digits than the norm of their logarithms.
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

    def random(self, key: Key[Array, ""]) -> Point:
        leaves, structure = jax.tree.flatten(self.factors, is_leaf=_is_factor)
        keys = jax.random.split(key, len(leaves))
        return structure.unflatten(f.random(k) for f, k in zip(leaves, keys, strict=True))

    def log_prob_random(self, x: Point) -> Scalar:
        return self._total("log_prob_random", x)

    @property
    def is_vector_space(self) -> bool:
        return all(factor.is_vector_space for factor in self._leaves())

    def gaussian(self) -> tuple[Any, Any]:
        moments = [factor.gaussian() for factor in self._leaves()]
        structure = jax.tree.structure(self.factors, is_leaf=_is_factor)
        mean, std = (structure.unflatten(part) for part in zip(*moments, strict=True))
        return mean, std

    def ambient(self) -> "Product":
        return Product(self._map("ambient"))
