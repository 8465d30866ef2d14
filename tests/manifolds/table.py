"""Every manifold the tests run on: a new one is one line here.

The laws step up to 3 away from a point, so injectivity radii must be larger (π will do).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.cases import cases
from wfm.manifolds import (
    SO3,
    SPD,
    Euclidean,
    Hyperboloid,
    PoincareBall,
    Product,
    Sphere,
    Torus,
    ZeroSum,
)
from wfm.priors import standard

MANIFOLDS = {
    "euclidean": Euclidean((2, 3)),
    "vector": Euclidean((4,)),
    "circle": Sphere((2,)),
    "sphere": Sphere((3,)),
    "whole_array": Sphere((4, 3), radius=2**0.5),
    "columns": Sphere((5, 3), axes=0),
    "conv": Sphere((3, 3, 2, 4), axes=(0, 1, 2)),
    "torus": Torus((3,)),
    "zero_sum": ZeroSum(Sphere((4, 3), radius=2.0), Sphere((4, 2), radius=2.0), axis=1),
    "hyperboloid": Hyperboloid(3),
    "poincare_ball": PoincareBall(2),
    "spd": SPD(2),
    "so3": SO3(),
    "hyperbolic_product": Product({"h": Hyperboloid(2), "b": Euclidean((3,))}),
    "product": Product({"w": Sphere((5, 3), axes=0), "b": Euclidean((3,))}),
    "nested": Product(
        {
            "layers": [Product({"w": Sphere((3,)), "log_scale": Euclidean(())}), Torus((2,))],
            "empty": Sphere((5, 0), axes=0),
        }
    ),
}

# Each sort once; the others are like one of these.
OFTEN = ("torus", "zero_sum", "hyperboloid", "spd", "product")
CASES = cases(MANIFOLDS, OFTEN)

# Where projected noise is crowded at an edge, or far out.
DRAWN = [MANIFOLDS[k] for k in ("hyperboloid", "poincare_ball", "spd", "hyperbolic_product")]
# How far away `log` still has one direction; laws go that far where a point has no antipode.
CUT = {SO3: 2**0.5 * np.pi}


@functools.cache
def _jitted(method: str):
    return jax.jit(lambda manifold, *args: getattr(manifold, method)(*args))


@jax.jit
def _drawn(prior, key):
    return prior.sample(key)


class Jitted:
    """A manifold whose methods are compiled once for all tests."""

    def __init__(self, manifold):
        self.manifold = manifold

    def __repr__(self):
        return repr(self.manifold)

    def __getattr__(self, method: str):
        if method.startswith("_"):
            raise AttributeError(method)
        return functools.partial(_jitted(method), self.manifold)

    @functools.cached_property
    def shapes(self):
        return jax.eval_shape(self.prior.sample, jax.random.key(0))

    @property
    def prior(self):
        """Uniform, or not so far from the origin that float32 holds no more digits."""
        return standard(self.manifold, 0.5)

    def points(self, seed: int, n: int):
        """Points all over the manifold, if possible without the time that draws compile."""
        if any(self.manifold is m for m in DRAWN):
            return [_drawn(self.prior, jax.random.key(seed + i)) for i in range(n)]
        return [self.project(noise(self.shapes, seed + i, 3.0)) for i in range(n)]


def noise(like, seed: int, size: float = 1.0):
    """An ambient vector."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape, scale=size), a.dtype), like)
