"""The flow, which knows nothing of weights, learns densities on surfaces."""

import jax
import numpy as np
import pytest

from configs.manifolds import get_config
from experiments.manifolds import SURFACES, histogram, learn, mixture


@pytest.mark.slow
@pytest.mark.parametrize("variant", SURFACES)
def test_the_learned_density_is_the_data_s(variant):
    config = get_config(variant)
    surface = SURFACES[variant]
    _, samples, _ = learn(surface, config, lambda step, loss: None)
    assert np.allclose(surface.manifold.project(samples[0]), samples[0], atol=1e-5)
    # The true shares of each bin, from so many draws that their own error does not matter.
    truth = mixture(surface.manifold, config.data.spread, 400_000, jax.random.key(11))
    true, found = histogram(surface, truth), histogram(surface, samples)
    # Total variation that as many perfect samples would show: E|share - p| for each bin.
    noise = np.sqrt(2 / np.pi * true * (1 - true) / len(samples)).sum() / 2
    variation = abs(found - true).sum() / 2
    uniform = abs(1 / true.size - true).sum() / 2
    assert variation < noise + 0.1
    assert variation < uniform / 5
