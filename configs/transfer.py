"""MNIST networks for Fashion-MNIST, and at other widths: `experiments.transfer`.

Command    python -m experiments.transfer --config=configs/transfer.py --workdir=runs/transfer
Variants   euclidean, normalized, geometric
Hardware   2 CPU cores, 3.5 GB
Time       see docs/results/mnist.md
Expected   docs/results/mnist.md
"""

from typing import Any

from ml_collections import ConfigDict

from configs import mnist


def get_config(variant: str = "geometric") -> ConfigDict:
    """The flow of `base`, equivariant so that it has other widths too, and what is done with it."""
    config: Any = ConfigDict()
    base: Any = mnist.get_config(variant)
    base.field.own_embedding = "fixed"
    config.base = base
    config.target = "fashion_mnist"
    config.networks = 32  # of each kind
    config.widths = (10, 16, 32, 64)
    config.guidance = ConfigDict()
    config.guidance.steps = 64  # Euler steps, each with one gradient
    config.guidance.batch_size = 128
    config.guidance.scales = (1.0, 3.0, 10.0, 30.0)
    config.guidance.rates = (0.01, 0.03, 0.1, 0.3)  # of the training that it stands beside
    config.curves = ConfigDict()
    config.curves.stride = 78  # steps between points of a learning curve
    return config
