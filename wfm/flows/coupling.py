"""Which x₀ is paired with which x₁ in training."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.batching import take_rows
from wfm.errors import UserError
from wfm.manifolds import Manifold, Point
from wfm.ot import best_assignment, sinkhorn, to_doubly_stochastic
from wfm.priors import Prior


class Coupling(eqx.Module):
    """A way to pair data with draws from the prior; only a coupling sees the whole batch."""

    independent: ClassVar[bool] = False  # whether x₀ says nothing about x₁

    @abc.abstractmethod
    def pair(
        self, space: Manifold, prior: Prior, batch: Any, key: Key[Array, ""]
    ) -> tuple[Point, Point]:
        """Stacked x₀ and x₁ of a batch, for paths in `space`.

        A batch is stacked points x₁, unless the coupling defines it otherwise.
        """

    def given(self, batch: Any) -> tuple[Any, Any]:
        """The stacked x₀ of a batch, or `None` if the data do not contain them, and its x₁."""
        return None, batch


class Independent(Coupling):
    """Fresh draws from the prior."""

    independent: ClassVar[bool] = True

    def pair(
        self, space: Manifold, prior: Prior, batch: Point, key: Key[Array, ""]
    ) -> tuple[Point, Point]:
        return _draws(prior, batch, key), batch


class OptimalTransport(Coupling):
    """Draws from the prior, assigned so that the sum of squared geodesic distances is minimal.

    Mini-batch optimal transport (Pooladian et al. 2023; Tong et al. 2024). All weights are equal,
    so the best plan is an assignment, and each draw is used once.
    """

    def pair(
        self, space: Manifold, prior: Prior, batch: Point, key: Key[Array, ""]
    ) -> tuple[Point, Point]:
        x0 = _draws(prior, batch, key)
        return take_rows(x0, best_assignment(-space.squared_distances(batch, x0))), batch


class EntropicTransport(Coupling):
    """Draws from the prior, chosen for each x₁ by the entropic optimal plan (Cuturi 2013).

    `epsilon` is the weight of the plan's entropy, in units of the mean squared distance of the
    batch. Near 0 the plan is that of `OptimalTransport`; for large values pairs are independent. A
    draw may be used more than once, but on average each is used once. This holds even if Sinkhorn's
    iterations do not reach their tolerance (a small `epsilon` needs more of them): the remaining
    error is rounded away (`to_doubly_stochastic`), and `marginal_error` of `plan` says how large it
    is.
    """

    epsilon: float = eqx.field(static=True, default=0.05)
    iterations: int = eqx.field(static=True, default=100)

    def __check_init__(self):
        if not self.epsilon > 0:
            raise UserError(
                f"epsilon must be positive, got {self.epsilon}; without entropy it is "
                "OptimalTransport"
            )

    def pair(
        self, space: Manifold, prior: Prior, batch: Point, key: Key[Array, ""]
    ) -> tuple[Point, Point]:
        prior_key, key = jax.random.split(key)
        x0 = _draws(prior, batch, prior_key)
        cost = space.squared_distances(x0, batch)
        plan = to_doubly_stochastic(self.plan(cost))
        return take_rows(x0, jax.random.categorical(key, jnp.log(plan), axis=0)), batch

    def plan(self, cost: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """How often x₀ (rows) and x₁ (columns) are paired, given their squared distances."""
        return sinkhorn(-cost, self.epsilon * cost.mean(), self.iterations)


class EquivariantTransport(Coupling):
    """`OptimalTransport` up to a symmetry of the prior (Klein, Krämer & Noé 2023).

    `align(x₁, x₀)` moves x₀ by the group element that brings it near x₁; the result must not depend
    on the position of x₀ in its orbit. The plan is found between points that are all aligned to the
    first of the batch, and then each x₀ is aligned to its own x₁. This takes 3n alignments; the
    best plan between orbits would take n².

    x₀ depends on x₁, so its distribution is the prior's only up to the symmetry. This is right for
    an equivariant field; any other field never learns what to do with the other draws of the prior.
    """

    align: Callable[[Point, Point], Point]

    def pair(
        self, space: Manifold, prior: Prior, batch: Point, key: Key[Array, ""]
    ) -> tuple[Point, Point]:
        first = take_rows(batch, 0)
        to_first = jax.vmap(lambda x: self.align(first, x))
        x0 = to_first(_draws(prior, batch, key))
        cost = space.squared_distances(to_first(batch), x0)
        return jax.vmap(self.align)(batch, take_rows(x0, best_assignment(-cost))), batch


class Paired(Coupling):
    """Pairs that come with the data: a batch is `(x₀, x₁)`, both stacked.

    With trained networks as x₁ and their initial weights as x₀, this is trajectory coupling. If x₀
    is permuted along with x₁, it has the prior's distribution only up to permutation, as in
    `EquivariantTransport`.
    """

    def given(self, batch: Any) -> tuple[Any, Any]:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise UserError("the coupling Paired takes pairs: give the data as (x₀, x₁), stacked")
        return batch[0], batch[1]

    def pair(
        self, space: Manifold, prior: Prior, batch: tuple[Point, Point], key: Key[Array, ""]
    ) -> tuple[Point, Point]:
        return batch


def _draws(prior: Prior, batch: Point, key: Key[Array, ""]) -> Point:
    """As many draws from the prior as there are points in the batch."""
    n = len(jax.tree.leaves(batch)[0])
    return jax.vmap(prior.sample)(jax.random.split(key, n))
