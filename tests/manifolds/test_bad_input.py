"""What a manifold cannot do, it refuses in words."""

import jax.numpy as jnp
import pytest

from wfm.manifolds import Product, Sphere, Torus


@pytest.mark.parametrize("axes", [2, -3, (0, 2), (0, 0), (1, -1)])
def test_sphere_refuses_axes_that_do_not_fit(axes):
    with pytest.raises(ValueError, match=r"axes .* do not fit shape"):
        Sphere((5, 3), axes=axes)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_sphere_refuses_a_radius_that_is_not_positive(radius):
    with pytest.raises(ValueError, match="positive radius"):
        Sphere((3,), radius=radius)


@pytest.mark.parametrize("manifold", [Torus((2,)), Product({"angles": Torus((2,))})])
def test_torus_has_no_ambient_space(manifold):
    with pytest.raises(NotImplementedError, match="angles"):
        manifold.ambient()


def test_product_refuses_a_point_of_another_structure():
    with pytest.raises(ValueError, match="b"):
        Product({"a": Torus((2,))}).project({"b": jnp.zeros(2)})
