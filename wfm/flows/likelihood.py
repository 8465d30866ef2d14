"""Change of density along a flow."""

import abc
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.flows.draws import normal_like, rademacher_like
from wfm.flows.integrator import Integrator
from wfm.flows.noise import VelocityAt
from wfm.manifolds import Euclidean, Manifold, Point, Product, Tangent
from wfm.manifolds.base import Scalar

BASIS_CHUNK = 64  # directions at a time, so that memory stays bounded


class Divergence(eqx.Module):
    """A way to compute the divergence of a tangent field, with respect to the Riemannian volume.

    div v = tr(P Dv P) + Dω v, where P projects to the tangent space and ω is the manifold's
    `log_volume`: P Dv is the covariant derivative in ambient coordinates, where ω = 0 (Absil,
    Mahony & Sepulchre 2008, section 5.3; O'Neill 1983, 'Semi-Riemannian Geometry', lemma 4.3);
    in a chart P = 1 and div v = Σᵢ ∂ᵢ(√g vⁱ)/√g. The trace is Σᵢ ⟨ζᵢ, P Dv ζᵢ⟩ in the metric,
    over the images ζᵢ under the manifold's `frame` of all ambient directions, or the mean over
    random ones.
    """

    @abc.abstractmethod
    def __call__(
        self, space: Manifold, velocity: VelocityAt, t: Any, x: Point, key: Key[Array, ""] | None
    ) -> tuple[Tangent, Scalar]:
        """The velocity at `x`, and its divergence there."""


class Exact(Divergence):
    """The sum over all ambient directions: as many derivatives as coordinates."""

    def __call__(
        self, space: Manifold, velocity: VelocityAt, t: Any, x: Point, key: Key[Array, ""] | None
    ) -> tuple[Tangent, Scalar]:
        v, pull = jax.vjp(lambda x: velocity(t, x), x)
        flat, unflatten = jax.flatten_util.ravel_pytree(x)

        def along(i: Array) -> Scalar:
            direction = unflatten(jnp.zeros_like(flat).at[i].set(1))
            return _quadratic(space, x, pull, direction)

        terms = jax.lax.map(along, jnp.arange(flat.size), batch_size=BASIS_CHUNK)
        return v, terms.sum() + _along(space.log_volume, x, v)


class Hutchinson(Divergence):
    """An unbiased estimate from `probes` random directions (Hutchinson 1989).

    The same directions serve all of the path (Grathwohl et al. 2019, arXiv 1810.01367). Signs
    vary less than Gaussian probes, which `gaussian` asks for.
    """

    probes: int = eqx.field(static=True, default=1)
    gaussian: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if self.probes < 1:
            raise ValueError(f"an estimate needs at least 1 probe, got {self.probes}")

    def __call__(
        self, space: Manifold, velocity: VelocityAt, t: Any, x: Point, key: Key[Array, ""] | None
    ) -> tuple[Tangent, Scalar]:
        if key is None:
            raise ValueError("Hutchinson's estimate draws random probes: give a key")
        draw = normal_like if self.gaussian else rademacher_like
        v, pull = jax.vjp(lambda x: velocity(t, x), x)
        one = lambda k: _quadratic(space, x, pull, draw(k, x))  # noqa: E731
        trace = jax.vmap(one)(jax.random.split(key, self.probes)).mean()
        return v, trace + _along(space.log_volume, x, v)


def _quadratic(space: Manifold, x: Point, pull: Any, direction: Point) -> Float[Array, ""]:
    """⟨ζ, P Dv ζ⟩ for ζ = F z, as Dvᵀ of a covector: fields need no derivative but training's."""
    zeta = space.frame(x, direction)
    lowered = jax.grad(lambda w: space.inner(x, zeta, space.to_tangent(x, w)))
    pulled = pull(lowered(jax.tree.map(jnp.zeros_like, zeta)))
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, zeta, *pulled)), jnp.zeros(()))


def _along(function: Callable[[Point], Scalar], x: Point, v: Tangent) -> Scalar:
    """The derivative of `function` at `x` in the direction `v`."""
    return jax.jvp(function, (x,), (v,))[1]


def integrate_divergence(
    space: Manifold,
    velocity: VelocityAt,
    x: Point,
    integrator: Integrator,
    times: Float[Array, " times"],
    divergence: Divergence,
    key: Key[Array, ""] | None,
) -> tuple[Point, Scalar]:
    """Where `velocity` carries `x` over `times`, and ∫ div v dt on the way there.

    Since d log p_t(x_t)/dt = -div v (Chen et al. 2018, arXiv 1806.07366, theorem 1; on manifolds
    Mathieu & Nickel 2020), this is how much log p falls from the first of `times` to the last.
    """

    def slope(t: Any, state: tuple[Point, Scalar], _: Any) -> tuple[Tangent, Scalar]:
        return divergence(space, velocity, t, state[0], key)

    both = Product((space, Euclidean(())))
    start = (x, jnp.zeros(()))
    solution = integrator.solve(both, diffrax.ODETerm(slope), start, times)
    end, total = jax.tree.map(lambda a: a[-1], solution.ys)
    return end, total
