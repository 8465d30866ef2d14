"""Are generated networks new, or copies of the ones they were learned from?"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key

from wfm.manifolds import Manifold
from wfm.weights import WeightForm, Weights, align, align_all

CANDIDATES = 16
CHUNK = 32


class Nearest(eqx.Module):
    """Training networks, prepared for asking how far other networks are from them.

    Distances are geodesic, between canonical forms, after aligning the pair: those of the
    quotient by permutations and rescalings. Aligning every pair would take long, so only the
    `CANDIDATES` that are nearest once all are aligned to one common network are aligned in pairs.
    """

    form: WeightForm = eqx.field(static=True)
    manifold: Manifold
    points: Weights
    flat: Float[Array, "n weights"]

    def __init__(self, form: WeightForm, training: Weights):
        self.form = form
        self.manifold = form.manifold()
        points = jax.vmap(form.encode)(training)
        self.points, _ = align_all(form.spec, jax.tree.map(lambda a: a[0], points), points)
        self.flat = _flatten(self.points)

    def distances(self, weights: Weights) -> Float[Array, " k"]:
        """Distance of each of the stacked networks to its nearest training network."""
        points = jax.vmap(self.form.encode)(weights)
        reference = jax.tree.map(lambda a: a[0], self.points)
        aligned, _ = align_all(self.form.spec, reference, points)
        rough = _squared_distances(_flatten(aligned), self.flat)
        _, candidates = jax.lax.top_k(-rough, min(CANDIDATES, len(self.flat)))

        def one(args: tuple[Weights, Int[Array, " c"]]) -> Float[Array, ""]:
            point, rows = args
            others = jax.tree.map(lambda a: a[rows], self.points)
            pair = lambda other: self.manifold.dist(point, align(self.form.spec, point, other))  # noqa: E731
            return jax.vmap(pair)(others).min()

        return jax.jit(lambda args: jax.lax.map(one, args, batch_size=CHUNK))((aligned, candidates))


def _flatten(points: Weights) -> Float[Array, "n weights"]:
    return jax.vmap(lambda p: ravel_pytree(p)[0])(points)


def _squared_distances(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    return (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T


def with_noise(weights: Weights, key: Key[Array, ""], scale: float = 0.1) -> Weights:
    """Baseline: stacked networks plus noise, of `scale` times each array's root mean square."""
    keys = jax.random.split(key, len(weights))
    return {
        name: a + scale * jnp.sqrt(jnp.mean(a**2)) * jax.random.normal(k, a.shape)
        for k, (name, a) in zip(keys, weights.items(), strict=True)
    }


def averaged_pairs(form: WeightForm, weights: Weights, key: Key[Array, ""]) -> Weights:
    """Baseline: every stacked network moved half-way to another one, after aligning that."""
    n = len(next(iter(weights.values())))
    partner = (jnp.arange(n) + jax.random.randint(key, (n,), 1, max(n, 2))) % n
    manifold = form.manifold()

    def middle(a: Weights, b: Weights) -> Weights:
        a, b = form.encode(a), form.encode(b)
        return form.decode(manifold.geodesic(a, align(form.spec, a, b), 0.5))

    others = jax.tree.map(lambda a: a[partner], weights)
    return jax.jit(jax.vmap(middle))(weights, others)


def smallest_disagreement(
    classes: Int[Array, "n m"], training: Int[Array, "k m"]
) -> Float[Array, " n"]:
    """Share of inputs classified otherwise than by the training network that agrees most.

    Novelty in function space, for weights that no data reach make distances look large.
    """
    one = lambda c: (c[None] != training).mean(1).min()  # noqa: E731
    return jax.lax.map(one, classes, batch_size=CHUNK)


def median_ratio(a: Float[Array, " n"], b: Float[Array, " m"]) -> float:
    """Median of `a` over median of `b`, `nan` where that is 0."""
    bottom = float(jnp.median(b))
    return float(jnp.median(a)) / bottom if bottom else math.nan
