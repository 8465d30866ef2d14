"""Can the predicted probabilities be trusted?"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from wfm.evaluation.finite import warn_of

BINS = 15


def calibration(
    p: Float[Array, "m classes"], labels: Int[Array, " m"]
) -> dict[str, Float[Array, ""]]:
    """`accuracy`, `nll` (nats), `brier` score and `ece` of predicted distributions.

    `brier`: mean squared distance to the true distribution, Σ_c (p_c − [c = y])², between 0 and 2
    (Brier 1950). `ece`: expected calibration error, Σ_b |B_b|/m |accuracy(B_b) − confidence(B_b)|
    over `BINS` bins of the largest probability, of equal width (Guo et al. 2017, equation 3). All
    are NaN, with a warning, if a probability is NaN.
    """
    hits = (p.argmax(-1) == labels).astype(p.dtype)
    of_label = jnp.take_along_axis(p, labels[:, None], 1).squeeze(1)
    true = jax.nn.one_hot(labels, p.shape[1], dtype=p.dtype)
    confidence = p.max(-1)
    # A bin includes its upper edge but not its lower edge.
    bins = jnp.clip(jnp.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = jnp.zeros(BINS, p.dtype).at[bins].add(hits - confidence)
    finite = jnp.isfinite(p).all()
    warn_of(finite[None], "set of distributions", "its figures are NaN")
    figures = {
        "accuracy": hits.mean(),
        "nll": -jnp.log(jnp.maximum(of_label, jnp.finfo(p.dtype).tiny)).mean(),
        "brier": ((p - true) ** 2).sum(-1).mean(),
        "ece": jnp.abs(gaps).sum() / len(labels),
    }
    return {name: jnp.where(finite, value, jnp.nan) for name, value in figures.items()}
