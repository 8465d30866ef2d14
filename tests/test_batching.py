"""Examples a few at a time against all at once."""

import chex
import jax
import jax.numpy as jnp
import pytest

from wfm.batching import batched, in_chunks, map_batched


def norms(x):
    return {"sum": x["a"].sum(0) * x["b"], "size": jnp.sqrt((x["a"] ** 2).sum())}


def stacked(n):
    return {"a": jax.random.normal(jax.random.key(n), (n, 3, 4)), "b": jnp.arange(float(n))}


@pytest.mark.parametrize("n", [1, 2, 5])
def test_batched_is_vmap(n):
    expected = jax.vmap(norms)(stacked(n))
    chex.assert_trees_all_close(batched(norms, n)(stacked(n)), expected, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 9])
def test_any_number_at_once_gives_the_same(n, at_once):
    found = map_batched(norms, stacked(n), at_once)
    chex.assert_trees_all_close(found, jax.vmap(norms)(stacked(n)), rtol=1e-6)


def test_what_is_left_over_needs_no_second_program():
    shapes = []
    map_batched(lambda x: shapes.append(x.shape), jnp.ones((7, 2)), 3)
    assert shapes == [(2,)]


def test_batches_are_as_short_as_their_number_allows():
    jaxpr = jax.make_jaxpr(lambda x: map_batched(jnp.sin, x, 16))(jnp.ones(20))
    assert "[2,10]" in str(jaxpr)


def test_one_at_a_time_has_no_axis_of_length_one():
    shapes = []
    map_batched(lambda x: shapes.append(x["a"].shape) or x["b"], stacked(4), 1)
    jaxpr = jax.make_jaxpr(lambda x: map_batched(norms, x, 1))(stacked(4))
    assert set(shapes) == {(3, 4)}
    assert "[1,3,4]" not in str(jaxpr).split("scan")[1]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("chunk", [1, 3, 4, 9])
def test_chunks_are_equally_long_and_give_the_same(axis, chunk):
    lengths = []

    def outer(x):
        lengths.append(len(x))
        return jnp.moveaxis(jnp.outer(x, jnp.arange(2.0)), 0, axis)

    found = in_chunks(outer, jnp.arange(7.0), chunk, axis)
    assert set(lengths) == {min(chunk, 8)}  # a power of two is enough for all
    chex.assert_trees_all_equal(found, outer(jnp.arange(7.0)))
