"""The interface of every geometry, which all other code in `wfm` uses."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from wfm.errors import UserError

Point = PyTree[Float[Array, "..."]]
"""A point of a manifold: an array, or arrays in a pytree."""
Tangent = PyTree[Float[Array, "..."]]
"""A tangent vector, with the structure of the point that it is at."""
Scalar = Float[Array, ""]


class Manifold(eqx.Module):
    """A Riemannian manifold whose points and tangent vectors are pytrees of one structure.

    Methods take one point; use `jax.vmap` for many. Points are given in ambient coordinates (or in
    a chart, such as the torus's angles), and densities are with respect to the Riemannian volume. A
    metric that is not that of the coordinates needs its own `frame`, and in a chart its own
    `log_volume`. A manifold that lacks an operation raises `NotImplementedError`.
    """

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Intrinsic dimension."""

    @abc.abstractmethod
    def exp(self, x: Point, v: Tangent) -> Point:
        """End of the geodesic that starts at `x` with velocity `v`, after unit time."""

    @abc.abstractmethod
    def log(self, x: Point, y: Point) -> Tangent:
        """Velocity at `x` of a shortest geodesic that reaches `y` after unit time."""

    @abc.abstractmethod
    def inner(self, x: Point, u: Tangent, v: Tangent) -> Scalar:
        """Metric at `x`."""

    @abc.abstractmethod
    def transport(self, x: Point, y: Point, v: Tangent) -> Tangent:
        """Parallel transport of `v` from `x` to `y` along the shortest geodesic."""

    @abc.abstractmethod
    def project(self, x: Point) -> Point:
        """A point of the manifold for any ambient coordinates `x`; points stay as they are.

        If the metric is that of the surrounding coordinates, it is the closest point.
        """

    def off(self, x: Point) -> Scalar:
        """Distance of the arrays of `x` from a point, over the largest entry: 0, up to rounding.

        By default it is the change that `project` makes. Override it if `project` chooses among
        several names of one point, as for angles.
        """
        size = lambda a: jnp.abs(a).max(initial=1e-30)  # noqa: E731
        gap = lambda a, b: jnp.abs(a - b).max(initial=0) / size(a)  # noqa: E731
        return jnp.stack(jax.tree.leaves(jax.tree.map(gap, x, self.project(x)))).max()

    @abc.abstractmethod
    def to_tangent(self, x: Point, v: Tangent) -> Tangent:
        """Orthogonal projection of an ambient vector onto the tangent space at `x`."""

    def frame(self, x: Point, a: Point) -> Tangent:
        """A linear map of ambient arrays onto the tangent space at `x`, which turns standard normal
        arrays into standard normal tangent vectors.

        If F is this map, F Fᵀ is the inverse of the metric. The default is `to_tangent`, which is
        right if the metric is that of the surrounding coordinates; override it for other metrics.
        """
        return self.to_tangent(x, a)

    def gradient(self, x: Point, covector: Point) -> Tangent:
        """The Riemannian gradient from the derivatives in the coordinates of `x`: F Fᵀ `covector`.

        Absil, Mahony & Sepulchre (2008, section 3.6).
        """
        zero = jax.tree.map(jnp.zeros_like, covector)
        _, pull = jax.vjp(lambda a: self.frame(x, a), zero)
        return self.frame(x, *pull(covector))

    def log_volume(self, x: Point) -> Scalar:
        """Log of the Riemannian volume over the one whose divergence is the trace of P Dv P.

        P is `to_tangent`. The result is 0 if P Dv is the covariant derivative, that is, if the
        metric is that of the surrounding space, definite or not. In a chart, which may be a linear
        subspace of the arrays, it is half the log-determinant of the metric's matrix.
        """
        return jnp.zeros(())

    @property
    @abc.abstractmethod
    def is_compact(self) -> bool:
        """Whether there is a uniform distribution, with `uniform` and `log_total_volume`.

        Otherwise there is a wrapped normal distribution, with `origin`, `normal` and `log_stretch`,
        if the exponential map at the `origin` reaches every point once.
        """

    def uniform(self, key: Key[Array, ""]) -> Point:
        """A point, uniform with respect to the Riemannian volume."""
        raise NotImplementedError(f"there is no uniform distribution on {type(self).__name__}")

    def log_total_volume(self) -> Scalar:
        """Log of the Riemannian volume of the whole manifold."""
        raise NotImplementedError(f"{type(self).__name__} has no known volume")

    def origin(self) -> Point:
        """A fixed point, around which wrapped normal draws lie."""
        raise NotImplementedError(f"{type(self).__name__} has no origin; use a Uniform prior")

    def normal(self, key: Key[Array, ""]) -> Tangent:
        """A standard normal tangent vector at the origin."""
        raise NotImplementedError(f"{type(self).__name__} has no origin; use a Uniform prior")

    def log_stretch(self, x: Point) -> Scalar:
        """Log-determinant at log_o(x) of the exponential map's derivative at the origin o."""
        raise NotImplementedError(f"{type(self).__name__} has no origin; use a Uniform prior")

    @abc.abstractmethod
    def ambient(self) -> "Manifold":
        """The flat space that holds the manifold's ambient coordinates."""

    @property
    def is_vector_space(self) -> bool:
        """Whether points may be added and scaled without leaving the manifold."""
        return False

    def norm(self, x: Point, v: Tangent) -> Scalar:
        """Length of `v`, with gradient 0 at `v = 0`."""
        size = _largest(jax.tree.leaves(v))
        v = jax.tree.map(lambda a: a / size.astype(a.dtype), v)
        return size * safe_sqrt(self.inner(x, v, v))

    def dist(self, x: Point, y: Point) -> Scalar:
        """Geodesic distance."""
        return self.norm(x, self.log(x, y))

    def squared_distances(self, x: Point, y: Point) -> Float[Array, "n m"]:
        """Squared geodesic distances of all stacked points `x` (rows) to all of `y` (columns)."""
        row = lambda a: jax.vmap(lambda b: self.dist(a, b) ** 2)(y)  # noqa: E731
        return jax.vmap(row)(x)

    def geodesic(self, x: Point, y: Point, t: Any) -> Point:
        """The point at time `t` of the shortest geodesic from `x` (t=0) to `y` (t=1)."""
        return self.exp(x, jax.tree.map(lambda v: t * v, self.log(x, y)))


def safe_sqrt(s: Float[Array, "..."]) -> Float[Array, "..."]:
    """Square root whose derivative at 0 is 0 instead of infinite. NaN stays NaN."""
    none = s <= 0
    return jnp.where(none, 0.0, jnp.sqrt(jnp.where(none, 1.0, s)))


def safe_norm(x: Float[Array, "..."], axes: Any = None) -> Float[Array, "..."]:
    """Euclidean norm over `axes`, which stay with size 1; its derivative at 0 is 0.

    Entries are divided by the largest before they are squared, so nothing underflows or overflows.
    """
    size = jax.lax.stop_gradient(jnp.abs(x).max(axes, keepdims=True, initial=0))
    size = jnp.where(size > 0, size, 1.0)
    return size * safe_sqrt(jnp.sum((x / size) ** 2, axis=axes, keepdims=True))


def replaced_if_any(
    which: Bool[Array, "..."], array: Float[Array, "..."], by: Callable[[], Float[Array, "..."]]
) -> Float[Array, "..."]:
    """`array`, replaced by `by()` where `which` holds, computed only if it holds anywhere."""
    return jax.lax.cond(which.any(), lambda: jnp.where(which, by(), array), lambda: array)


def _largest(leaves: list[Array]) -> Scalar:
    """The largest absolute entry, or 1 if all are 0."""
    sizes = [jnp.abs(jax.lax.stop_gradient(a)).max(initial=0) for a in leaves]
    size = jnp.stack(sizes).max()
    return jnp.where(size > 0, size, 1.0)


def check_dimension(n: int) -> None:
    """Raise `UserError` unless `n` is a valid number of dimensions."""
    if not (isinstance(n, int) and n >= 1):
        raise UserError(f"n is a number of dimensions and must be a positive integer, got {n!r}")
