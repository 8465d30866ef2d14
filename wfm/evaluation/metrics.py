"""How well networks do their task.

Networks whose outputs contain NaN or infinity have NaN as figures and `NO_CLASS` as class, and a
warning names them.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from wfm.evaluation.finite import finite_rows, only_where, warn_of
from wfm.tasks import Split, accuracy, check_data, cross_entropy
from wfm.weights import Weights, WeightSpec, in_chunks

CHUNK = 256
NO_CLASS = -1


def evaluate(spec: WeightSpec, weights: Weights, split: Split) -> dict[str, Float[Array, " n"]]:
    """`accuracy` and `loss` (mean negative log-likelihood, nats) of each stacked network."""
    spec.check(weights, batch_dims=1)
    check_data(spec, split)
    figures = in_chunks(lambda ws: _evaluate(spec, ws, split), weights, CHUNK)
    warn_of(finite_rows(figures), "networks' outputs", "their figures are NaN")
    return figures


@partial(jax.jit, static_argnums=0)
def _evaluate(spec: WeightSpec, weights: Weights, split: Split) -> dict[str, Array]:
    outputs = _outputs(spec, weights, split.x)
    metrics = {"accuracy": accuracy, "loss": cross_entropy}
    figures = {
        name: jax.vmap(lambda out, f=f: f(out, split.y))(outputs) for name, f in metrics.items()
    }
    return only_where(finite_rows(outputs), figures, jnp.nan)


def predictions(spec: WeightSpec, weights: Weights, x: Float[Array, "m ..."]) -> Int[Array, "n m"]:
    """The class that each stacked network assigns to each input."""
    spec.check(weights, batch_dims=1)
    classes = in_chunks(lambda ws: _classes(_outputs(spec, ws, x)), weights, CHUNK)
    warn_of((classes != NO_CLASS).all(1), "networks' outputs", f"their class there is {NO_CLASS}")
    return classes


def logits(
    spec: WeightSpec, weights: Weights, x: Float[Array, "m ..."]
) -> Float[Array, "n m classes"]:
    """The outputs of each stacked network for each input."""
    spec.check(weights, batch_dims=1)
    return in_chunks(lambda ws: _outputs(spec, ws, x), weights, CHUNK)


def probabilities(
    spec: WeightSpec, weights: Weights, x: Float[Array, "m ..."]
) -> Float[Array, "n m classes"]:
    """The distribution over classes that each stacked network gives for each input."""
    p = in_chunks(lambda ws: _probabilities(_outputs(spec, ws, x)), weights, CHUNK)
    warn_of(finite_rows(p), "networks' outputs", "their probabilities there are NaN")
    return p


def ensemble_accuracy(spec: WeightSpec, weights: Weights, split: Split) -> float:
    """The accuracy of the mean of the probabilities that stacked networks give.

    A deep ensemble (Lakshminarayanan et al. 2017, section 2.4).
    """
    mean = probabilities(spec, weights, split.x).mean(0)
    return float(accuracy(jnp.log(mean), split.y))


@jax.jit
def _classes(outputs: Float[Array, "n m classes"]) -> Int[Array, "n m"]:
    return jnp.where(jnp.isfinite(outputs).all(-1), outputs.argmax(-1), NO_CLASS)


@jax.jit
def _probabilities(outputs: Float[Array, "n m classes"]) -> Float[Array, "n m classes"]:
    finite = jnp.isfinite(outputs).all(-1, keepdims=True)
    return jnp.where(finite, jax.nn.softmax(outputs), jnp.nan)


@partial(jax.jit, static_argnums=0)
def _outputs(spec: WeightSpec, weights: Weights, x: Float[Array, "m ..."]) -> Array:
    return jax.vmap(spec.outputs, (0, None))(weights, x)
