"""Quality against the number of integration steps: `experiments.steps`.

Command    python -m experiments.steps --config=configs/steps.py:geometric --workdir=runs/steps
Variants   euclidean, normalized, geometric on breast cancer; mnist
Hardware   2 CPU cores
Time       30 to 50 minutes a flow on one core
Expected   docs/results/steps.md, docs/results/mnist-steps.md
"""

from typing import Any

from ml_collections import ConfigDict

from configs import mnist, uci


def get_config(variant: str = "geometric") -> ConfigDict:
    """The demo's flow or one of its siblings, or that of MNIST, sampled in every way."""
    config: Any = ConfigDict()
    config.shared = ""  # folder of zoos and flows for other runs too
    config.variant = variant
    base: Any = mnist.get_config() if variant == "mnist" else uci.get_config(variant)
    base.sampling.networks = 100
    config.base = base
    config.solvers = ("euler", "midpoint", "rk4")
    config.steps = (1, 2, 4, 8, 16, 64, 128, 256, 512)
    config.guidance = 10.0  # of breast cancer: lowest validation loss of 0.1, 1, 3, 10, 30, 100
    if variant == "mnist":
        base.sampling.networks = 32
        base.sampling.update({"guidance_batch": 128, "guidance_rate": "falling"})
        base.training.learning_rate = 5e-3
        config.solvers = ("euler", "midpoint")
        config.steps = (1, 4, 16, 64, 256)
    return config
