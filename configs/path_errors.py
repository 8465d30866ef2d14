"""Where on the path new MNIST networks lose their quality: `experiments.path_errors`.

Command    make mnist
Hardware   2 CPU cores
Time       docs/results/mnist-path.md
Expected   docs/results/mnist-path.md
"""

from typing import Any

from ml_collections import ConfigDict

from configs import mnist


def get_config(variant: str = "geometric") -> ConfigDict:
    """A flow of `configs/mnist.py`, at the learning rate of its studies."""
    config: Any = ConfigDict()
    config.shared = ""  # folder of zoos and flows for other runs too
    base: Any = mnist.get_config(variant)
    base.training.learning_rate = 5e-3
    config.base = base
    config.times = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    return config
