"""Geometry alone: manifolds with exponential maps, transport and reference densities."""

from wfm.manifolds.base import Manifold, Point, Tangent
from wfm.manifolds.euclidean import Euclidean
from wfm.manifolds.product import Product
from wfm.manifolds.sphere import Sphere
from wfm.manifolds.torus import Torus
from wfm.manifolds.zero_sum import ZeroSum

__all__ = ["Euclidean", "Manifold", "Point", "Product", "Sphere", "Tangent", "Torus", "ZeroSum"]
