"""Trivial ways to make new networks: what a generator must beat."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, Key

from wfm.batching import map_batched, take_rows
from wfm.checks import check_count
from wfm.draws import normal
from wfm.errors import UserError
from wfm.evaluation.novelty import stack_flat
from wfm.weights import WeightForm, Weights, WeightSpec, align, align_all

COMPONENTS = 30
AT_ONCE = 32


def gaussian_networks(
    form: WeightForm,
    reference: Weights,
    weights: Weights,
    key: Key[Array, ""],
    n: int,
    components: int = COMPONENTS,
) -> Weights:
    """Baseline: `n` networks from a Gaussian fitted to stacked ones.

    The networks' points are aligned to the `reference`, a point of `form`, and seen from it as
    tangent vectors. Draws have the mean of these vectors and their variances along the
    `components` directions of largest variance, or all if there are fewer: principal geodesic
    analysis (Fletcher et al. 2004, section 3) around a given point. Fewer components give networks
    that are better, and closer to those that were fitted.
    """
    check_count("components", components)
    if len(next(iter(weights.values()))) < 2:
        raise UserError("a Gaussian is fitted to at least two networks; give more")
    points, _ = align_all(form.spec, reference, form.encode_all(weights))
    mean, directions = _principal(form, reference, points, components)
    return _gaussian(form, reference, mean, directions, jax.random.split(key, n))


@partial(jax.jit, static_argnums=(0, 3))
def _principal(
    form: WeightForm, reference: Weights, points: Weights, components: int
) -> tuple[Float[Array, " d"], Float[Array, "k d"]]:
    """Mean of tangent vectors, and directions as long as their standard deviation there."""
    tangents = stack_flat(jax.vmap(partial(form.manifold().log, reference))(points))
    mean = tangents.mean(0)
    rows = (tangents - mean[None]) * (len(tangents) - 1) ** -0.5
    # The eigenvectors u of rows rowsᵀ give uᵀ rows, a direction as long as the deviation along it.
    _, vectors = jnp.linalg.eigh(rows @ rows.T)
    return mean, vectors[:, ::-1][:, :components].T @ rows


@partial(jax.jit, static_argnums=0)
def _gaussian(
    form: WeightForm,
    reference: Weights,
    mean: Float[Array, " d"],
    directions: Float[Array, "k d"],
    keys: Key[Array, " n"],
) -> Weights:
    _, unravel = ravel_pytree(reference)

    def one(key: Key[Array, ""]) -> Weights:
        tangent = mean + normal(key, (len(directions),)) @ directions
        return form.decode(form.manifold().exp(reference, unravel(tangent)))

    return map_batched(one, keys, AT_ONCE)


@jax.jit
def with_noise(weights: Weights, key: Key[Array, ""], scale: ArrayLike = 0.1) -> Weights:
    """Baseline: stacked networks plus noise of `scale` times the root mean square of each array."""
    keys = jax.random.split(key, len(weights))
    return {
        name: a + scale * jnp.sqrt(jnp.mean(a**2)) * normal(k, a.shape)
        for k, (name, a) in zip(keys, weights.items(), strict=True)
    }


def averaged_pairs(form: WeightForm, weights: Weights, key: Key[Array, ""]) -> Weights:
    """Baseline: every stacked network moved half-way to another one that is aligned to it."""
    manifold = form.manifold()
    return _of_pairs(form, lambda a, b, _: manifold.geodesic(a, b, 0.5), weights, key)


def crossed_pairs(form: WeightForm, weights: Weights, key: Key[Array, ""]) -> Weights:
    """Baseline: stacked networks whose hidden neurons come at random from them or an aligned one.

    A neuron brings its incoming weights and bias, and its weights to the outputs.
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
    """One network per stacked network, made from its aligned point and that of another."""
    n = len(next(iter(weights.values())))
    partner = (jnp.arange(n) + jax.random.randint(key, (n,), 1, max(n, 2))) % n

    a = form.encode_all(weights)
    b = _aligned_to(form.spec, a, take_rows(a, partner))
    keys = jax.random.split(jax.random.fold_in(key, 1), n)
    return jax.jit(jax.vmap(lambda a, b, key: form.decode(child(a, b, key))))(a, b, keys)


@partial(jax.jit, static_argnums=0)
def _aligned_to(spec: WeightSpec, references: Weights, points: Weights) -> Weights:
    """Each of the stacked points, aligned to its own reference."""
    return jax.vmap(partial(align, spec))(references, points)
