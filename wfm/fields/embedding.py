"""Features of time."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

FREQUENCIES = 4  # fields change slowly with time


def fourier_features(t: Float[Array, ""]) -> Float[Array, " features"]:
    """Cosines and sines with 1, 2, … half turns over [0, 1]."""
    angles = jnp.pi * jnp.arange(1, FREQUENCIES + 1) * t
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])


class TimeEmbedding(nnx.Module):
    """Fourier features mapped by one hidden layer."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.up = nnx.Linear(2 * FREQUENCIES, width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, t: Float[Array, ""]) -> Float[Array, " width"]:
        return self.out(jax.nn.gelu(self.up(fourier_features(t))))
