"""The rescalings of a neuron that its activation function commutes with."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.manifolds import Manifold, Sphere
from wfm.manifolds.base import safe_sqrt


class Scaling(eqx.Module):
    """Factors α with σ(αz) = α σ(z), and the normal form that they allow."""

    @abc.abstractmethod
    def random(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        """Random factors for `n` neurons."""

    @abc.abstractmethod
    def measure(self, incoming: Float[Array, "n k"]) -> Float[Array, " n"]:
        """The factor α of each neuron whose incoming weights are α times their normal form."""

    def manifold(self, flat: Manifold, shape: tuple[int, ...], axis: int) -> Manifold:
        """Where incoming weights in normal form live: `flat`, or a sphere for each neuron.

        Neurons run along `axis`.
        """
        return flat


class NoScaling(Scaling):
    """Only α = 1, as for GELU or for neurons that other things hold in place."""

    def random(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return jnp.ones(n)

    def measure(self, incoming: Float[Array, "n k"]) -> Float[Array, " n"]:
        return jnp.ones(len(incoming))


NO_SCALING = NoScaling()


class SignScaling(Scaling):
    """α = ±1, as for odd functions such as tanh. Normal form: incoming weights sum up positive."""

    def random(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return jax.random.rademacher(key, (n,), jnp.float32)

    def measure(self, incoming: Float[Array, "n k"]) -> Float[Array, " n"]:
        return jnp.where(incoming.sum(1) < 0, -1.0, 1.0)


class PositiveScaling(Scaling):
    """α > 0, as for ReLU. Normal form: incoming weights have norm 1 (Pittorino et al. 2022).

    A neuron without incoming weights has no normal form and keeps its scale.
    """

    def random(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return jnp.exp(jax.random.normal(key, (n,)))

    def measure(self, incoming: Float[Array, "n k"]) -> Float[Array, " n"]:
        norm = safe_sqrt((incoming**2).sum(1))
        return jnp.where(norm > 0, norm, 1.0)

    def manifold(self, flat: Manifold, shape: tuple[int, ...], axis: int) -> Manifold:
        return Sphere(shape, [a for a in range(len(shape)) if a != axis])
