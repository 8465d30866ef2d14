"""How much worse than two networks are the networks between them?"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wfm.errors import UserError
from wfm.evaluation.finite import finite_rows, only_where, warn_of
from wfm.manifolds import Manifold
from wfm.tasks import Split, mean_loss
from wfm.weights import (
    AsTrained,
    Matching,
    WeightForm,
    Weights,
    WeightSpec,
    align_all,
    align_each,
    barycentre,
    in_chunks,
    permute_all,
)

MIDPOINT = (0.5,)
CHUNK = 512


def barriers(
    spec: WeightSpec,
    space: Manifold,
    points: Weights,
    split: Split,
    times: Sequence[float] = MIDPOINT,
    matching: Matching | None = None,
) -> Float[Array, "n n"]:
    """Loss barriers (nats) between all pairs of stacked networks, given as points of `space`.

    max over `times` t of L(γ(t)) - (1 - t) L(γ(0)) - t L(γ(1)), where γ is the geodesic of
    `space` between the two (Frankle et al. 2020, Entezari et al. 2022: the straight line) and L the
    mean loss on `split`. Negative values mean that networks in between are better. With `matching`,
    the second network of each pair is first aligned to the first. If the weights or outputs of a
    network contain NaN or infinity, its barriers are NaN, and a warning names it.
    """
    spec.check(points, batch_dims=1)
    n = len(next(iter(points.values())))
    if n < 2:
        raise UserError(f"barriers lie between networks; give at least two, got {n}")
    if not len(times) or not all(0 <= t <= 1 for t in times):
        raise UserError(f"times on the way lie between 0 and 1, got {tuple(times)}")
    first, second = np.triu_indices(n, 1)
    good = finite_rows(points)
    points = only_where(good, points, 0.0)
    ends = jnp.where(good, _losses(spec, points, split), jnp.nan)
    warn_of(jnp.isfinite(ends), "networks", "their barriers are NaN")

    def between(rows: tuple[Array, Array]) -> Array:
        i, j = rows
        a, b = (jax.tree.map(lambda w, r=r: w[r], points) for r in rows)
        if matching:
            b, _ = align_each(spec, a, b, matching)
        return _barrier(spec, space, split, jnp.asarray(times), a, b, ends[i], ends[j])

    values = in_chunks(between, (jnp.asarray(first), jnp.asarray(second)), CHUNK)
    upper = jnp.zeros((n, n)).at[first, second].set(values)
    return upper + upper.T + jnp.diag(jnp.where(jnp.isfinite(ends), 0, jnp.nan))


def aligned_barriers(
    form: WeightForm, weights: Weights, split: Split
) -> dict[str, dict[str, float]]:
    """`mean_over_pairs` of the barriers half-way on straight lines between stacked networks.

    `"as they are"`, and `"aligned"` to their barycentre in the canonical form.
    """
    spec = form.network
    points = form.encode_all(weights)
    _, found = align_all(form.spec, barycentre(form.spec, points), points)
    flat = AsTrained(spec).manifold()
    ways = {"as they are": weights, "aligned": permute_all(spec, found, weights)}
    return {way: mean_over_pairs(barriers(spec, flat, w, split)) for way, w in ways.items()}


def mean_over_pairs(matrix: Float[Array, "n n"]) -> dict[str, float]:
    """`mean` over pairs, and its standard `error` over networks (the jackknife's).

    Networks with NaN on the diagonal are left out, with a warning.
    """
    good = jnp.isfinite(jnp.diagonal(matrix))
    warn_of(good, "networks' figures", "they are left out of the mean")
    matrix = matrix[good][:, good]
    n = len(matrix)
    if n < 2:
        return {"mean": math.nan, "error": math.nan}
    total = float(matrix.sum())
    mean = total / (n * (n - 1))
    if n < 3:
        return {"mean": mean, "error": math.nan}
    without = (total - 2 * np.asarray(matrix, float).sum(1)) / ((n - 1) * (n - 2))
    error = ((n - 1) / n * ((without - without.mean()) ** 2).sum()) ** 0.5
    return {"mean": mean, "error": float(error)}


@eqx.filter_jit
def _losses(spec: WeightSpec, weights: Weights, split: Split) -> Float[Array, " n"]:
    return jax.vmap(lambda w: mean_loss(spec, w, split.x, split.y))(weights)


@eqx.filter_jit
def _barrier(
    spec: WeightSpec,
    space: Manifold,
    split: Split,
    times: Float[Array, " k"],
    a: Weights,
    b: Weights,
    loss_a: Float[Array, " n"],
    loss_b: Float[Array, " n"],
) -> Float[Array, " n"]:
    def one(a: Weights, b: Weights, loss_a: Array, loss_b: Array) -> Array:
        def excess(t: Array) -> Array:
            loss = mean_loss(spec, space.geodesic(a, b, t), split.x, split.y)
            return loss - (1 - t) * loss_a - t * loss_b

        return jax.lax.map(excess, times).max()

    return jax.vmap(one)(a, b, loss_a, loss_b)
