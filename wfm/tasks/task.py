"""What a network is trained for: data in three splits, and the loss on its outputs."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Split(eqx.Module):
    """Inputs and class labels, one row for each example."""

    x: Float[Array, "n ..."]
    y: Int[Array, " n"]

    def __len__(self) -> int:
        return len(self.y)


class Task(eqx.Module):
    """A classification data set, standardised with the statistics of its training split."""

    train: Split
    validation: Split
    test: Split
    n_classes: int = eqx.field(static=True)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.train.x.shape[1:]


def cross_entropy(
    logits: Float[Array, "... classes"], labels: Int[Array, "..."]
) -> Float[Array, ""]:
    """Mean negative log-likelihood of the labels, in nats."""
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probs, labels[..., None], axis=-1).mean()


def accuracy(logits: Float[Array, "... classes"], labels: Int[Array, "..."]) -> Float[Array, ""]:
    """Share of examples whose largest output is the label's; NaN where an output is."""
    hits = (logits.argmax(-1) == labels).mean()
    return jnp.where(jnp.isnan(logits).any(), jnp.nan, hits)
