"""Are generated networks new, or copies of the training networks?"""

import math
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key

from wfm.batching import take_rows
from wfm.checks import check_count
from wfm.evaluation.finite import finite_rows, only_where, warn_of
from wfm.weights import (
    Matching,
    WeightForm,
    WeightMatching,
    Weights,
    align,
    align_all,
    in_chunks,
)

CANDIDATES = 32
DRAWS = 1000  # of a bootstrap
BY_WEIGHTS = WeightMatching()
NO_CLASS = "have no class for an input"
PAIRS = 1024  # aligned at a time


class Nearest:
    """Training networks, prepared for measuring how far other networks are from them.

    Distances are geodesic, between canonical forms, after aligning the pair: those of the
    quotient by permutations and rescalings. Aligning every pair would take long. So all networks
    are first aligned to one common `reference`, a point of `form`, and only the `candidates`
    nearest to each are then aligned in pairs. `excess` measures the resulting error.

    If the form keeps a symmetry (`symmetries_left`), a warning says that distances are only upper
    bounds. Networks that contain NaN or infinity have distance NaN, or are left out of the training
    networks, and a warning names them.
    """

    def __init__(
        self,
        form: WeightForm,
        reference: Weights,
        training: Weights,
        candidates: int = CANDIDATES,
        matching: Matching = BY_WEIGHTS,
    ):
        check_count("candidates", candidates)
        if left := form.symmetries_left():
            warnings.warn(
                f"distances are only upper bounds of those of the quotient: the form keeps "
                f"{'; '.join(left)}",
                stacklevel=2,
            )
        self.form = form
        self.reference = reference
        self.matching = matching
        warn_of(finite_rows(training), "training networks", "they are nobody's nearest")
        self.points = self.align(training)
        self.candidates = min(candidates, len(next(iter(training.values()))))
        flat = stack_flat(self.points)
        self._usable = jnp.isfinite(flat).all(1)
        self._flat = flat
        self._nearest = jax.jit(jax.vmap(self._distance, in_axes=(0, 0, None)))

    def align(self, weights: Weights) -> Weights:
        """Canonical forms of stacked networks, aligned to the reference."""
        good = finite_rows(weights)
        points = self.form.encode_all(only_where(good, weights, 1.0))
        aligned = align_all(self.form.spec, self.reference, points, self.matching)[0]
        return only_where(good, aligned, jnp.nan)

    def distances(self, weights: Weights) -> Float[Array, " k"]:
        """Distance of each of the stacked networks to its nearest training network."""
        warn_of(finite_rows(weights), "networks", "their distances are NaN")
        return self._of(self.align(weights), self.candidates)

    def excess(self, weights: Weights) -> Float[Array, " k"]:
        """The relative excess of `distances` over the distances from aligning all pairs.

        This takes one alignment per training network for each of `weights`: give only a few.
        """
        aligned = self.align(weights)
        exact = self._of(aligned, len(self._flat))
        return jnp.where(exact > 0, self._of(aligned, self.candidates) / exact - 1, 0.0)

    def _of(self, aligned: Weights, candidates: int) -> Float[Array, " k"]:
        flat = stack_flat(aligned)
        rows = _nearest_rows(flat, self._flat, self._usable, candidates)
        chunk = max(1, PAIRS // candidates)
        found = in_chunks(lambda args: self._nearest(*args, self.points), (aligned, rows), chunk)
        return jnp.where(jnp.isfinite(flat).all(1), found, jnp.nan)

    def _distance(
        self, point: Weights, candidates: Int[Array, " c"], points: Weights
    ) -> Float[Array, ""]:
        manifold, spec = self.form.manifold(), self.form.spec

        def to_one(row: Int[Array, ""]) -> Float[Array, ""]:
            other = align(spec, point, take_rows(points, row), self.matching)
            found = manifold.dist(point, other)
            return jnp.where(self._usable[row], found, jnp.inf)

        least = jax.vmap(to_one)(candidates).min()
        return jnp.where(jnp.isfinite(least), least, jnp.nan)


@jax.jit
def stack_flat(points: Weights) -> Float[Array, "n weights"]:
    """Each of the stacked networks as one row."""
    return jax.vmap(lambda p: ravel_pytree(p)[0])(points)


@partial(jax.jit, static_argnums=3)
def _nearest_rows(
    a: Float[Array, "n d"], b: Float[Array, "m d"], usable: Bool[Array, " m"], count: int
) -> Int[Array, "n count"]:
    """For each row of `a` the nearest of the usable rows of `b`."""
    rough = jnp.where(usable[None], _squared_distances(a, b), jnp.inf)
    return jax.lax.top_k(-rough, count)[1]


def _squared_distances(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """From differences, because a² + b² − 2ab loses all digits where points are close."""
    to_all = lambda x: ((x[None] - b) ** 2).sum(1)  # noqa: E731
    return jax.lax.map(to_all, a)


def smallest_disagreement(
    classes: Int[Array, "n m"], training: Int[Array, "k m"]
) -> Float[Array, " n"]:
    """Share of inputs classified differently from the training network that agrees most.

    This is novelty in function space; weights that no data reach inflate distances. Networks
    without a class for an input (`predictions` gives −1) have NaN, or are left out of the training
    networks, and a warning names them.
    """
    known, good = (training >= 0).all(1), (classes >= 0).all(1)
    warn_of(known, "training networks", "they are left out", NO_CLASS)
    warn_of(good, "networks", "their disagreement is NaN", NO_CLASS)
    share = jax.lax.map(
        lambda c: jnp.where(known, (c[None] != training).mean(1), jnp.inf).min(), classes
    )
    return jnp.where(good & jnp.isfinite(share), share, jnp.nan)


def median_ratio(a: Float[Array, " n"], b: Float[Array, " m"]) -> float:
    """Median of `a` divided by median of `b`, `nan` if the latter is 0.

    NaN values are left out, with a warning.
    """
    good = [jnp.isfinite(x) for x in (a, b)]
    for finite in good:
        warn_of(finite, "figures", "they are left out of the median")
    top, bottom = (float(jnp.median(x[finite])) for x, finite in zip((a, b), good, strict=True))
    return top / bottom if bottom else math.nan


def ratio_error(
    a: Float[Array, " n"], b: Float[Array, " m"], trajectory: Int[Array, " m"], key: Key[Array, ""]
) -> float:
    """Standard error of `median_ratio(a, b)`, where `trajectory` says where each of `b` is from.

    Bootstrap (Efron 1979) of the networks of `a` and of whole trajectories of `b`, whose snapshots
    resemble each other: both are drawn again with replacement, `DRAWS` times.
    """
    a, kept = a[jnp.isfinite(a)], jnp.isfinite(b)
    b = b[kept]
    names, owner = np.unique(np.asarray(trajectory)[kept], return_inverse=True)
    n = len(names)
    if len(a) < 2 or n < 2:
        return math.nan

    def draw(key: Key[Array, ""]) -> Float[Array, ""]:
        own, other = jax.random.split(key)
        times = jnp.bincount(jax.random.randint(own, (n,), 0, n), length=n)
        return jnp.median(jax.random.choice(other, a, a.shape)) / _median_of_many(b, times[owner])

    return float(jax.lax.map(draw, jax.random.split(key, DRAWS)).std(ddof=1))


def _median_of_many(values: Float[Array, " n"], times: Int[Array, " n"]) -> Float[Array, ""]:
    """The median of `values`, each repeated as often as `times` says."""
    order = jnp.argsort(values)
    upto = jnp.cumsum(times[order])
    total = upto[-1]
    places = jnp.searchsorted(upto, jnp.stack([(total - 1) // 2, total // 2]), side="right")
    return values[order][places].mean()
