"""The rescalings of a neuron that commute with its activation function."""

import abc
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from wfm.manifolds import Manifold, Sphere
from wfm.manifolds.base import safe_sqrt


class Incoming(NamedTuple):
    """What enters the neurons of a group, one row per neuron.

    `lead`: the group's first kernel; `kernels`: all others; `biases`. `ties()` gives sums that
    change sign with the neuron and do not depend on the order of others, the most informative
    first, and the same sums of absolute values, to distinguish them from rounding errors.
    """

    lead: Float[Array, "n k"]
    kernels: Float[Array, "n j"]
    biases: Float[Array, "n b"]
    ties: Callable[[], tuple[Float[Array, "n t"], Float[Array, "n t"]]]


class Scaling(eqx.Module):
    """Factors α with σ(αz) = α σ(z), and the normal form that they define."""

    @abc.abstractmethod
    def random(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        """Random factors for `n` neurons."""

    @abc.abstractmethod
    def measure(self, incoming: Incoming) -> Float[Array, " n"]:
        """The factor α of each neuron whose incoming weights are α times their normal form."""

    @abc.abstractmethod
    def dead(self, incoming: Incoming) -> Bool[Array, " n"]:
        """Neurons without a normal form, because nothing that enters them gives their scale."""

    def silent(self, incoming: Incoming) -> Bool[Array, " n"]:
        """Which of the dead neurons output 0 for all inputs."""
        return _vanish(incoming.kernels) & _vanish(incoming.biases)

    def manifold(self, flat: Manifold, shape: tuple[int, ...], axis: int) -> Manifold:
        """Where incoming weights in normal form live: `flat`, or a sphere for each neuron.

        Neurons run along `axis`.
        """
        others = [a for a in range(len(shape)) if a != axis]
        return sphere_or_sign(flat, shape, others) if self.unit_norm else flat

    @property
    @abc.abstractmethod
    def words(self) -> str:
        """The factors, in words."""

    @property
    def unit_norm(self) -> bool:
        """Whether incoming weights in normal form have norm 1."""
        return False

    @property
    def linear(self) -> bool:
        """Whether the neurons are linear, so that any invertible matrix may act on all of them."""
        return False


class NoScaling(Scaling):
    """Only α = 1, as for GELU or for neurons fixed by something else."""

    @property
    def words(self) -> str:
        return "not rescaled"

    def random(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return jnp.ones(n)

    def measure(self, incoming: Incoming) -> Float[Array, " n"]:
        return jnp.ones(len(incoming.lead))

    def dead(self, incoming: Incoming) -> Bool[Array, " n"]:
        return jnp.zeros(len(incoming.lead), bool)


NO_SCALING = NoScaling()


class SignScaling(Scaling):
    """α = ±1, as for odd functions such as tanh. Normal form: incoming weights have a sum above 0.

    If they sum to 0, the first nonzero sum of `Incoming.ties` decides.
    """

    @property
    def words(self) -> str:
        return "with either sign"

    def random(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return jax.random.rademacher(key, (n,), jnp.float32)

    def measure(self, incoming: Incoming) -> Float[Array, " n"]:
        return _sign(incoming)

    def dead(self, incoming: Incoming) -> Bool[Array, " n"]:
        return _vanish(incoming.lead) & self.silent(incoming)


class PositiveScaling(Scaling):
    """α > 0, as for ReLU. Normal form: incoming weights have norm 1 (Pittorino et al. 2022).

    `rectifies`: whether σ(z) = 0 for z ≤ 0, as for ReLU, so that a neuron without incoming weights
    and with a negative bias is silent.
    """

    rectifies: bool = eqx.field(static=True, default=False)

    @property
    def words(self) -> str:
        return "times any positive number"

    def random(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return jnp.exp(jax.random.normal(key, (n,)))

    def measure(self, incoming: Incoming) -> Float[Array, " n"]:
        return jnp.where(self.dead(incoming), 1.0, safe_norm(incoming.lead))

    def dead(self, incoming: Incoming) -> Bool[Array, " n"]:
        return _vanish(incoming.lead)

    def silent(self, incoming: Incoming) -> Bool[Array, " n"]:
        below = (incoming.biases <= 0).all(1) if self.rectifies else _vanish(incoming.biases)
        return _vanish(incoming.kernels) & below

    @property
    def unit_norm(self) -> bool:
        return True


class LinearScaling(Scaling):
    """α ≠ 0, for neurons without an activation function, as on residual streams.

    Normal form: incoming weights have norm 1 and a sum above 0. Any invertible matrix may also act
    on all neurons together; no normal form here removes this freedom.
    """

    @property
    def words(self) -> str:
        return "times any number but 0"

    def random(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        size, sign = jax.random.split(key)
        return jnp.exp(jax.random.normal(size, (n,))) * jax.random.rademacher(sign, (n,), "float32")

    def measure(self, incoming: Incoming) -> Float[Array, " n"]:
        size = jnp.where(self.dead(incoming), 1.0, safe_norm(incoming.lead))
        return size * _sign(incoming)

    def dead(self, incoming: Incoming) -> Bool[Array, " n"]:
        return _vanish(incoming.lead)

    @property
    def unit_norm(self) -> bool:
        return True

    @property
    def linear(self) -> bool:
        return True


def sphere_or_sign(
    flat: Manifold, shape: tuple[int, ...], axes: list[int], radius: float = 1.0
) -> Manifold:
    """The sphere over `axes`, or `flat` if it has dimension 0: two points that no path joins."""
    if math.prod(shape[a] for a in axes) < 2:
        return flat
    return Sphere(shape, axes, radius)


def safe_norm(rows: Float[Array, "n k"]) -> Float[Array, " n"]:
    """Norm of each row, without overflow or underflow, and with gradient 0 at 0."""
    largest = jax.lax.stop_gradient(jnp.abs(rows).max(1, initial=0.0))
    largest = jnp.where(largest < jnp.finfo(rows.dtype).tiny, 1.0, largest)
    return largest * safe_sqrt(((rows / largest[:, None]) ** 2).sum(1))


def _vanish(rows: Float[Array, "n k"]) -> Bool[Array, " n"]:
    """Which rows are zero. NaN is not zero, so that errors are not hidden."""
    return jnp.abs(rows).max(1, initial=0.0) < jnp.finfo(rows.dtype).tiny


def _sign(incoming: Incoming) -> Float[Array, " n"]:
    """The sign of the first of `ties` that is not a rounding error; 1 if there is none."""
    ties, sizes = incoming.ties()
    clear = jnp.abs(ties) > 100 * jnp.finfo(ties.dtype).eps * sizes
    first = jnp.argmax(clear, 1)
    negative = jnp.take_along_axis(jnp.where(clear, ties, 0.0), first[:, None], 1)[:, 0] < 0
    return jnp.where(negative, -1.0, 1.0)
