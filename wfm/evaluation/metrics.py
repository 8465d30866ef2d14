"""How well networks do their task."""

from functools import partial

import jax
from jaxtyping import Array, Float, Int

from wfm.tasks import Split, accuracy, cross_entropy
from wfm.weights import Weights, WeightSpec

CHUNK = 256


def evaluate(spec: WeightSpec, weights: Weights, split: Split) -> dict[str, Float[Array, " n"]]:
    """`accuracy` and `loss` (mean negative log-likelihood, nats) of each stacked network."""

    def one(w: Weights) -> dict[str, Array]:
        logits = jax.vmap(partial(spec.apply, w))(split.x)
        return {"accuracy": accuracy(logits, split.y), "loss": cross_entropy(logits, split.y)}

    return jax.jit(lambda ws: jax.lax.map(one, ws, batch_size=CHUNK))(weights)


def predictions(spec: WeightSpec, weights: Weights, x: Float[Array, "m ..."]) -> Int[Array, "n m"]:
    """The class that each stacked network assigns to each input."""

    def one(w: Weights) -> Array:
        return jax.vmap(partial(spec.apply, w))(x).argmax(-1)

    return jax.jit(lambda ws: jax.lax.map(one, ws, batch_size=CHUNK))(weights)
