"""What weights can be led towards: the task's loss on mini-batches."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from wfm.tasks.task import Split, cross_entropy
from wfm.weights import Weights, WeightSpec


class BatchLoss(eqx.Module):
    """Mean negative log-likelihood (nats) of weights, or of a form's points, on a mini-batch.

    The key draws `batch_size` examples with replacement, and Gaussian noise of standard deviation
    `input_noise` on their inputs: with noise, weights are led to be robust to it.
    """

    spec: WeightSpec = eqx.field(static=True)
    split: Split
    batch_size: int = eqx.field(static=True, default=32)
    input_noise: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        groups = list(self.spec.groups.values())
        inputs, outputs = groups[0].size, groups[-1].size
        if self.split.x.shape[-1] != inputs:
            raise ValueError(
                f"the data have {self.split.x.shape[-1]} inputs and the network {inputs}; "
                "give data of the network's own task"
            )
        if self.split.y.max() >= outputs:
            raise ValueError(
                f"the data have a class {int(self.split.y.max())} and the network {outputs} "
                "outputs, counted from 0; give data of the network's own task"
            )
        if self.batch_size < 1:
            raise ValueError(f"a batch needs at least 1 example, got {self.batch_size}")
        if not self.input_noise >= 0:
            raise ValueError(
                f"input_noise is a standard deviation and cannot be negative, "
                f"got {self.input_noise}"
            )

    def __call__(self, weights: Weights, key: Key[Array, ""]) -> Array:
        row_key, noise_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (self.batch_size,), 0, len(self.split))
        x, y = self.split.x[rows], self.split.y[rows]
        if self.input_noise:
            x = x + self.input_noise * jax.random.normal(noise_key, jnp.shape(x))
        return cross_entropy(jax.vmap(lambda x: self.spec.apply(weights, x))(x), y)
