"""What networks predict together: averages over networks, and how much they differ."""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlog1py
from jaxtyping import Array, Float

from wfm.evaluation.finite import finite_rows, only_where, warn_of

GRID = 128  # points at which kernel densities are evaluated


def model_averages(p: Float[Array, "n m classes"]) -> Float[Array, "n m classes"]:
    """The Bayesian model average of the first 1, 2, …, n networks: means of probabilities.

    The Monte Carlo estimate of ∫ p(y|x,θ) p(θ|data) dθ (MacKay 1992, Neural Computation 4(3)).
    Networks without finite probabilities are left out, with a warning; an average of none is NaN.
    """
    good = finite_rows(p)
    warn_of(good, "networks' probabilities", "they are left out of averages")
    counts = jnp.cumsum(good.astype(p.dtype))
    return jnp.cumsum(only_where(good, p, 0.0), 0) / counts[:, None, None]


def divergences(p: Float[Array, "n m classes"]) -> Float[Array, "n n"]:
    """Jensen–Shannon divergence of each pair of networks, in nats, averaged over the inputs.

    H((p + q)/2) − (H(p) + H(q))/2 (Lin 1991, IEEE Transactions on Information Theory 37(1),
    equation 4.1), exact for categorical distributions, between 0 and log 2. Networks without finite
    probabilities have NaN, and a warning names them.
    """
    warn_of(finite_rows(p), "networks' probabilities", "their divergences are NaN")
    of_one = jax.jit(lambda q: jax.lax.map(lambda r: _divergence(q, r).mean(), p))
    return jnp.stack([of_one(q) for q in p])


def kernel_divergences(p: Float[Array, "n m classes"]) -> Float[Array, "n n"]:
    """Jensen–Shannon divergence of each pair of networks' distributions of outputs, in nats.

    For each class, the distribution of its probability over inputs is a Gaussian kernel density
    with the bandwidth of Scott (1992, Multivariate Density Estimation) on a grid of [0, 1]; the
    result is the mean over classes. It does not see which input has which output, so it is far
    below `divergences`. Erdogan (2025, arXiv 2504.03710) uses kernel densities too, but does not
    say of what.
    """
    grid = jnp.linspace(0, 1, GRID)

    def densities(q: Float[Array, "m classes"]) -> Float[Array, "classes grid"]:
        width = jnp.maximum(q.std(0, ddof=1) * len(q) ** -0.2, 1 / GRID)
        kernels = jnp.exp(-(((q[..., None] - grid[None, None]) / width[None, :, None]) ** 2) / 2)
        return kernels.sum(0) / kernels.sum((0, 2))[:, None]

    return divergences(jax.lax.map(jax.jit(densities), p))


def _divergence(
    p: Float[Array, "... classes"], q: Float[Array, "... classes"]
) -> Float[Array, "..."]:
    """Jensen–Shannon divergence without differences of nearly equal numbers.

    With m = (p + q)/2 and x = (q − p)/(q + p) it is Σ m/2 [(1+x) log(1+x) + (1−x) log(1−x)], where
    every term is positive. For small x the bracket is 2x artanh x + log(1 − x²).
    """
    total = p + q
    x = (q - p) / jnp.where(total > 0, total, 1)
    small = jnp.where(abs(x) < 0.5, x, 0)
    near = 2 * small * jnp.arctanh(small) + jnp.log1p(-(small**2))
    far = xlog1py(1 + x, x) + xlog1py(1 - x, -x)
    return (total / 4 * jnp.where(abs(x) < 0.5, near, far)).sum(-1)
