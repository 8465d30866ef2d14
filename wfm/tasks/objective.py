"""Objectives that guide weights: the task's loss on mini-batches."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from wfm.checks import check_count, numbers
from wfm.draws import normal
from wfm.errors import UserError
from wfm.tasks.task import Split, cross_entropy
from wfm.weights import Weights, WeightSpec


def check_data(spec: WeightSpec, split: Split) -> None:
    """Raise `UserError` unless a network has an input per feature and an output per class.

    Features lie on the last axis of the inputs. Labels that cannot be read are not checked.
    """
    groups = list(spec.groups.values())
    inputs, outputs = groups[0].size, groups[-1].size
    if split.x.shape[-1] != inputs:
        raise UserError(
            f"the data have {split.x.shape[-1]} inputs and the network {inputs}; "
            "give data of the network's own task"
        )
    labels = numbers(split.y)
    if labels is not None and labels.max() >= outputs:
        raise UserError(
            f"the data have a class {labels.max()} and the network {outputs} "
            "outputs, counted from 0; give data of the network's own task"
        )


def mean_loss(
    spec: WeightSpec, weights: Weights, x: Float[Array, "m ..."], y: Int[Array, " m"]
) -> Float[Array, ""]:
    """Mean negative log-likelihood (nats) of a network for inputs `x` with labels `y`."""
    return cross_entropy(spec.outputs(weights, x), y)


class BatchLoss(eqx.Module):
    """Mean negative log-likelihood (nats) of weights, or of a form's points, on a mini-batch.

    The key draws `batch_size` examples with replacement, and Gaussian noise of standard deviation
    `input_noise` on their inputs. Noise guides weights to be robust to it.
    """

    spec: WeightSpec = eqx.field(static=True)
    split: Split
    batch_size: int = eqx.field(static=True, default=32)
    input_noise: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        check_data(self.spec, self.split)
        check_count("the batch size", self.batch_size)
        if not 0 <= self.input_noise < math.inf:
            raise UserError(
                f"input_noise is a standard deviation, finite and not negative, "
                f"got {self.input_noise}"
            )

    def __call__(self, weights: Weights, key: Key[Array, ""]) -> Array:
        row_key, noise_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (self.batch_size,), 0, len(self.split))
        x, y = self.split.x[rows], self.split.y[rows]
        if self.input_noise:
            x = x + self.input_noise * normal(noise_key, jnp.shape(x))
        return mean_loss(self.spec, weights, x, y)
