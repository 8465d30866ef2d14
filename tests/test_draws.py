"""Random arrays and pytrees, against those of `jax.random` and against their distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wfm.draws import flat, normal, normal_like, rademacher_like

KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 0, 3), (2, 3, 4)])
def test_the_numbers_are_those_of_jax(shape):
    keys = jax.random.split(KEY, 3)
    np.testing.assert_array_equal(normal(KEY, shape), jax.random.normal(KEY, shape))
    np.testing.assert_array_equal(
        jax.vmap(lambda key: flat(jax.random.uniform, key, shape, float, -2, 3))(keys),
        jax.vmap(lambda key: jax.random.uniform(key, shape, float, -2, 3))(keys),
    )


LIKE = {"a": jnp.zeros((40, 50)), "b": (jnp.zeros(()), jnp.zeros((3000,), jnp.bfloat16))}


@pytest.mark.parametrize("draw", [normal_like, rademacher_like])
def test_trees_are_drawn_in_their_shapes_and_types_with_mean_0_and_variance_1(draw):
    found = draw(KEY, LIKE)
    same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, found, LIKE)
    assert all(jax.tree.leaves(same))
    x = np.concatenate([np.ravel(a).astype(float) for a in jax.tree.leaves(found)])
    fourth = {normal_like: 3, rademacher_like: 1}[draw]
    assert abs(x.mean()) < 4 * len(x) ** -0.5
    assert abs((x**2).mean() - 1) <= 4 * ((fourth - 1) / len(x)) ** 0.5 + 1e-3  # and rounding


def test_trees_may_hold_nothing():
    assert normal_like(KEY, {}) == {}
    assert normal_like(KEY, [jnp.zeros((0, 2))])[0].shape == (0, 2)


def test_arrays_of_a_tree_are_independent():
    a, b = normal_like(KEY, (jnp.zeros(2000), jnp.zeros(2000)))
    assert abs((a * b).mean()) < 4 * 2000**-0.5
