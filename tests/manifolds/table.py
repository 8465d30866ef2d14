"""Every manifold the tests run on: a new one is one line here.

The laws step up to 3 away from a point, so injectivity radii must be larger (π will do).
"""

from wfm.manifolds import Euclidean, Product, Sphere, Torus

MANIFOLDS = {
    "euclidean": Euclidean((2, 3)),
    "euclidean_std": Euclidean((4,), std=0.3),
    "circle": Sphere((2,)),
    "sphere": Sphere((3,)),
    "whole_array": Sphere((4, 3), radius=2**0.5),
    "columns": Sphere((5, 3), axes=0),
    "conv": Sphere((3, 3, 2, 4), axes=(0, 1, 2)),
    "torus": Torus((3,)),
    "product": Product({"w": Sphere((5, 3), axes=0), "b": Euclidean((3,), std=0.5)}),
    "nested": Product(
        {
            "layers": [Product({"w": Sphere((3,)), "log_scale": Euclidean(())}), Torus((2,))],
            "empty": Euclidean((0,)),
        }
    ),
}
