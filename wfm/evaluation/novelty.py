"""Are generated networks new, or copies of the ones they were learned from?"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key

from wfm.weights import WeightForm, Weights, align, align_all, in_chunks

CANDIDATES = 8
CHUNK = 32


class Nearest:
    """Training networks, prepared for asking how far other networks are from them.

    Distances are geodesic, between canonical forms, after aligning the pair: those of the
    quotient by permutations and rescalings. Aligning every pair would take long, so only the
    `CANDIDATES` that are nearest once all are aligned to one common `reference`, a point of
    `form`, are aligned in pairs.
    """

    def __init__(self, form: WeightForm, reference: Weights, training: Weights):
        self.form = form
        self.reference = reference
        self.points = self.align(training)
        self._flat = stack_flat(self.points)
        self._nearest = jax.jit(jax.vmap(self._distance, in_axes=(0, 0, None)))

    def align(self, weights: Weights) -> Weights:
        """Canonical forms of stacked networks, aligned to the common one."""
        points = jax.vmap(self.form.encode)(weights)
        return align_all(self.form.spec, self.reference, points)[0]

    def distances(self, weights: Weights) -> Float[Array, " k"]:
        """Distance of each of the stacked networks to its nearest training network."""
        aligned = self.align(weights)
        rough = _squared_distances(stack_flat(aligned), self._flat)
        _, candidates = jax.lax.top_k(-rough, min(CANDIDATES, len(self._flat)))
        return in_chunks(
            lambda args: self._nearest(*args, self.points), (aligned, candidates), CHUNK
        )

    def _distance(
        self, point: Weights, candidates: Int[Array, " c"], points: Weights
    ) -> Float[Array, ""]:
        manifold, spec = self.form.manifold(), self.form.spec
        others = jax.tree.map(lambda a: a[candidates], points)
        return jax.vmap(lambda other: manifold.dist(point, align(spec, point, other)))(others).min()


def stack_flat(points: Weights) -> Float[Array, "n weights"]:
    """Each of the stacked networks as one row."""
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
    manifold = form.manifold()
    return _of_pairs(form, lambda a, b, _: manifold.geodesic(a, b, 0.5), weights, key)


def crossed_pairs(form: WeightForm, weights: Weights, key: Key[Array, ""]) -> Weights:
    """Baseline: every stacked network, each hidden neuron by a coin from another, aligned one.

    A neuron brings its incoming weights and bias, and what it sends to the outputs.
    """
    spec, manifold = form.spec, form.manifold()

    def child(a: Weights, b: Weights, key: Key[Array, ""]) -> Weights:
        keys = jax.random.split(key, len(spec.permutable))
        coins = {
            group: jax.random.bernoulli(k, shape=(spec.groups[group].size,))
            for group, k in zip(spec.permutable, keys, strict=True)
        }
        mixed = dict(a)
        for name in a:
            owners = [(axis, g) for axis, g in spec.labels(name).items() if g in coins]
            if owners:
                axis, group = owners[-1]
                shape = [-1 if i == axis else 1 for i in range(a[name].ndim)]
                mixed[name] = jnp.where(coins[group].reshape(shape), a[name], b[name])
        return manifold.project(mixed)

    return _of_pairs(form, child, weights, key)


def _of_pairs(
    form: WeightForm,
    child: Callable[[Weights, Weights, Key[Array, ""]], Weights],
    weights: Weights,
    key: Key[Array, ""],
) -> Weights:
    """A network of each of the stacked ones and of another, from their aligned points."""
    n = len(next(iter(weights.values())))
    partner = (jnp.arange(n) + jax.random.randint(key, (n,), 1, max(n, 2))) % n

    def pair(a: Weights, b: Weights, key: Key[Array, ""]) -> Weights:
        a, b = form.encode(a), form.encode(b)
        return form.decode(child(a, align(form.spec, a, b), key))

    others = jax.tree.map(lambda a: a[partner], weights)
    return jax.jit(jax.vmap(pair))(weights, others, jax.random.split(jax.random.fold_in(key, 1), n))


def smallest_disagreement(
    classes: Int[Array, "n m"], training: Int[Array, "k m"]
) -> Float[Array, " n"]:
    """Share of inputs classified otherwise than by the training network that agrees most.

    Novelty in function space, for weights that no data reach make distances look large.
    """
    return jax.lax.map(lambda c: (c[None] != training).mean(1).min(), classes)


def median_ratio(a: Float[Array, " n"], b: Float[Array, " m"]) -> float:
    """Median of `a` over median of `b`, `nan` where that is 0."""
    bottom = float(jnp.median(b))
    return float(jnp.median(a)) / bottom if bottom else math.nan
