"""A Gaussian fitted to networks, against scikit-learn and planted zoos."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from tests.weights.table import NETWORKS, canonical, weights
from wfm.errors import UserError
from wfm.evaluation import aligned_barriers, gaussian_networks, stack_flat
from wfm.tasks import load_task
from wfm.weights import (
    AsTrained,
    Canonical,
    mlp,
    permute,
    random_permutation,
    random_rescaling,
    rescale,
)

SPEC = mlp(4, 3, 3)
N, DRAWS = 12, 4000


def stacked(spec, seeds):
    return jax.tree.map(lambda *a: jnp.stack(a), *(weights(spec, s) for s in seeds))


def first(many):
    return jax.tree.map(lambda a: a[0], many)


def copies(spec, w, n):
    """One network, its neurons permuted and rescaled at random."""

    def copy(key):
        a, b = jax.random.split(key)
        moved = permute(spec, random_permutation(spec, a), w)
        return rescale(spec, random_rescaling(spec, b), moved)

    return jax.vmap(copy)(jax.random.split(jax.random.key(3), n))


@pytest.mark.parametrize("components", [1, 4, 100])
def test_in_flat_space_it_is_that_of_principal_components(components):
    # Without hidden neurons, so that there is nothing to align.
    spec = mlp(4, 3)
    form, many = AsTrained(spec), stacked(spec, range(N))
    drawn = gaussian_networks(form, first(many), many, jax.random.key(0), DRAWS, components)
    true, found = np.asarray(stack_flat(many), float), np.asarray(stack_flat(drawn), float)
    pca = PCA(min(components, N - 1)).fit(true)
    error = np.sqrt(pca.explained_variance_.sum() / DRAWS)
    assert np.linalg.norm(found.mean(0) - true.mean(0)) < 3 * error
    z = pca.transform(found)
    # The variance of n draws has the relative standard error √(2/n).
    np.testing.assert_allclose(z.var(0), pca.explained_variance_, rtol=5 * (2 / DRAWS) ** 0.5)
    correlations = np.corrcoef(z.T).reshape(-1, z.shape[1]) - np.eye(z.shape[1])
    assert abs(correlations).max() < 5 * DRAWS**-0.5
    assert abs(found - pca.inverse_transform(z)).max() < 1e-4  # nothing outside


@pytest.mark.parametrize("name", ["vit", "residual", "mlp", "lenet5"])
def test_of_copies_of_one_network_it_is_that_network(name):
    spec, shape = NETWORKS[name]
    form, w = canonical(spec), weights(spec, 0)
    many = copies(spec, w, 8)
    drawn = gaussian_networks(form, form.encode(w), many, jax.random.key(1), 5)
    inputs = jax.random.normal(jax.random.key(2), (6, *shape))
    outputs = jax.vmap(lambda v: spec.outputs(v, inputs))(drawn)
    # Outputs are logits, of which a common shift is lost.
    centred = lambda a: np.asarray(a - a.mean(-1, keepdims=True))  # noqa: E731
    true = centred(spec.outputs(w, inputs))
    np.testing.assert_allclose(
        centred(outputs), np.broadcast_to(true, outputs.shape), atol=2e-3 * abs(true).max()
    )


def test_draws_lie_on_the_manifold_and_vary_as_the_networks_do():
    form, many = Canonical(SPEC), stacked(SPEC, range(40))
    reference = form.encode(first(many))
    drawn = gaussian_networks(form, reference, many, jax.random.key(0), 500)
    points = form.encode_all(drawn)
    assert float(jax.vmap(form.manifold().off)(points).max()) < 1e-5
    spread = lambda p: float(stack_flat(p).var(0).sum())  # noqa: E731
    of_all, of_few = spread(points), spread(form.encode_all(many))
    assert 0.3 < of_all / of_few < 2
    fewer = gaussian_networks(form, reference, many, jax.random.key(0), 500, 2)
    assert spread(form.encode_all(fewer)) < of_all


def test_one_network_has_no_spread():
    many = stacked(SPEC, [0])
    with pytest.raises(UserError, match="a Gaussian is fitted to at least two networks"):
        gaussian_networks(AsTrained(SPEC), first(many), many, jax.random.key(0), 3)
    with pytest.raises(UserError, match="components must be at least 1"):
        gaussian_networks(AsTrained(SPEC), first(many), many, jax.random.key(0), 3, 0)


def test_alignment_takes_away_the_barriers_between_copies():
    task = load_task("iris")
    one = weights(SPEC, 0, 2.0)
    # Not rescaled, so that the straight line between aligned copies is one point.
    permuted = jax.vmap(lambda key: permute(SPEC, random_permutation(SPEC, key), one))(
        jax.random.split(jax.random.key(3), 5)
    )
    found = aligned_barriers(Canonical(SPEC), permuted, task.test)
    assert abs(found["as they are"]["mean"]) > 0.05
    assert abs(found["aligned"]["mean"]) < 1e-4
