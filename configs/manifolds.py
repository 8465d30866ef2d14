"""A mixture learned on the sphere, the torus or the hyperbolic plane: `experiments.manifolds`.

Command    python -m experiments.manifolds --config=configs/manifolds.py:torus --workdir=runs/torus
Variants   sphere, torus, hyperboloid
Hardware   2 CPU cores
Time       about 10 seconds, compilation included
Expected   total variation from the data: sphere 0.03, torus 0.07, hyperboloid 0.04 (uniform: 0.72,
           0.78, 0.81); for the hyperboloid also figures/disk.png, with the learned density
"""

from ml_collections import ConfigDict


def get_config(variant: str = "sphere") -> ConfigDict:
    """A preset of seconds on two CPU cores."""
    config = ConfigDict()
    config.seed = 0
    config.manifold = variant
    config.width = 64
    config.depth = 3

    config.data = ConfigDict()
    config.data.points = 20_000
    config.data.spread = 0.3  # standard deviation of each component, as a geodesic distance

    config.training = ConfigDict()
    config.training.steps = 3000
    config.training.batch_size = 256
    config.training.learning_rate = 3e-3
    config.training.decay = 0.99
    config.training.report_every = 500

    config.sampling = ConfigDict()
    config.sampling.points = 20_000
    config.sampling.steps = 64
    return config
