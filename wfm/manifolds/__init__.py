"""Geometry alone: manifolds with exponential maps, transport and volumes."""

from wfm.manifolds.base import Manifold, Point, Tangent
from wfm.manifolds.euclidean import Euclidean
from wfm.manifolds.hyperboloid import Hyperboloid
from wfm.manifolds.poincare import PoincareBall
from wfm.manifolds.product import Product
from wfm.manifolds.so3 import SO3
from wfm.manifolds.spd import SPD
from wfm.manifolds.sphere import Sphere
from wfm.manifolds.torus import Torus
from wfm.manifolds.zero_sum import ZeroSum

__all__ = [
    "SO3",
    "SPD",
    "Euclidean",
    "Hyperboloid",
    "Manifold",
    "PoincareBall",
    "Point",
    "Product",
    "Sphere",
    "Tangent",
    "Torus",
    "ZeroSum",
]
