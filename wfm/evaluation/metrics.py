"""How well networks do their task."""

from functools import partial

import jax
from jaxtyping import Array, Float, Int

from wfm.tasks import Split, accuracy, check_data, cross_entropy
from wfm.weights import Weights, WeightSpec, in_chunks

CHUNK = 256


def evaluate(spec: WeightSpec, weights: Weights, split: Split) -> dict[str, Float[Array, " n"]]:
    """`accuracy` and `loss` (mean negative log-likelihood, nats) of each stacked network."""
    spec.check(weights, batch_dims=1)
    check_data(spec, split)
    return in_chunks(lambda ws: _evaluate(spec, ws, split), weights, CHUNK)


@partial(jax.jit, static_argnums=0)
def _evaluate(spec: WeightSpec, weights: Weights, split: Split) -> dict[str, Array]:
    outputs = _outputs(spec, weights, split.x)
    metrics = {"accuracy": accuracy, "loss": cross_entropy}
    return {
        name: jax.vmap(lambda out, f=f: f(out, split.y))(outputs) for name, f in metrics.items()
    }


def predictions(spec: WeightSpec, weights: Weights, x: Float[Array, "m ..."]) -> Int[Array, "n m"]:
    """The class that each stacked network assigns to each input."""
    spec.check(weights, batch_dims=1)
    return in_chunks(lambda ws: _outputs(spec, ws, x).argmax(-1), weights, CHUNK)


def logits(
    spec: WeightSpec, weights: Weights, x: Float[Array, "m ..."]
) -> Float[Array, "n m classes"]:
    """What each stacked network puts out for each input."""
    spec.check(weights, batch_dims=1)
    return in_chunks(lambda ws: _outputs(spec, ws, x), weights, CHUNK)


def probabilities(
    spec: WeightSpec, weights: Weights, x: Float[Array, "m ..."]
) -> Float[Array, "n m classes"]:
    """The distribution over classes that each stacked network gives for each input."""
    return jax.nn.softmax(logits(spec, weights, x))


@partial(jax.jit, static_argnums=0)
def _outputs(spec: WeightSpec, weights: Weights, x: Float[Array, "m ..."]) -> Array:
    return jax.vmap(lambda w: jax.vmap(partial(spec.apply, w))(x))(weights)
