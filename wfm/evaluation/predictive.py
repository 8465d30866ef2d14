"""What networks predict together: averages over them, and how far they differ."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

GRID = 128  # places where kernel densities are taken


def model_averages(p: Float[Array, "n m classes"]) -> Float[Array, "n m classes"]:
    """The Bayesian model average of the first 1, 2, …, n networks: means of probabilities.

    The Monte Carlo estimate of ∫ p(y|x,θ) p(θ|data) dθ (MacKay 1992, Neural Computation 4(3)).
    """
    counts = jnp.arange(1, len(p) + 1, dtype=p.dtype)
    return jnp.cumsum(p, 0) / counts[:, None, None]


def divergences(p: Float[Array, "n m classes"]) -> Float[Array, "n n"]:
    """Jensen–Shannon divergence of each pair of networks, in nats, averaged over the inputs.

    H((p + q)/2) − (H(p) + H(q))/2 (Lin 1991, IEEE Transactions on Information Theory 37(1),
    equation 4.1), of categorical distributions, exactly. It lies between 0 and log 2.
    """
    entropies = _entropy(p).mean(1)
    of_one = jax.jit(lambda q: jax.lax.map(lambda r: _entropy((q + r) / 2).mean(), p))
    mixed = jnp.stack([of_one(q) for q in p])
    return jnp.maximum(mixed - (entropies[:, None] + entropies[None]) / 2, 0)


def kernel_divergences(p: Float[Array, "n m classes"]) -> Float[Array, "n n"]:
    """Jensen–Shannon divergence of each pair of networks' distributions of outputs, in nats.

    Of each class's probability over all inputs, as a Gaussian kernel density with the bandwidth of
    Scott (1992, Multivariate Density Estimation) on a grid of [0, 1], averaged over the classes.
    It does not see which input has which output, so it is far below `divergences`. Erdogan (2025,
    arXiv 2504.03710) gives one with kernel densities, but does not say of what.
    """
    grid = jnp.linspace(0, 1, GRID)

    def densities(q: Float[Array, "m classes"]) -> Float[Array, "classes grid"]:
        width = jnp.maximum(q.std(0, ddof=1) * len(q) ** -0.2, 1 / GRID)
        kernels = jnp.exp(-(((q[..., None] - grid[None, None]) / width[None, :, None]) ** 2) / 2)
        return kernels.sum(0) / kernels.sum((0, 2))[:, None]

    return divergences(jax.lax.map(jax.jit(densities), p))


def _entropy(p: Float[Array, "... classes"]) -> Float[Array, "..."]:
    return -jax.scipy.special.xlogy(p, p).sum(-1)
