"""Flows used for other tasks and for other widths: `experiments.transfer`.

Command    make transfer
Variants   fashion: from MNIST to Fashion-MNIST and to wider networks; digits: from scikit-learn's
           digits to MNIST in as many pixels; rivals: the guided flow of the headline on its own
           task, against training with as many gradients
Hardware   2 CPU cores
Time       docs/results/transfer.md, for each seed
Expected   docs/results/transfer.md
"""

from typing import Any

from ml_collections import ConfigDict

from configs import mnist

CHANGES: dict[str, dict[str, Any]] = {
    "fashion": {},
    "digits": {
        "task": "mnist_8x8",
        "widths": (),
        "base": {
            "task": "digits",
            "zoo": {"batch_size": 32, "epochs": 60, "burn_in": 59, "stride": 33},
        },
    },
    "rivals": {
        "task": "mnist",
        "widths": (),
        "gradients": (512, 2048),
        "scales": (64.0, 256.0),
        "base": {
            "sampling": {"guidance_batch": 256, "guidance_rate": "hill"},
            "field": {"own_embedding": "all"},
            "flow": {"coupling": "independent"},
            "training": {"steps": 6000},
        },
    },
}


def get_config(variant: str = "fashion") -> ConfigDict:
    """An equivariant field, which serves networks of every width; `rivals`: the headline's."""
    config: Any = ConfigDict()
    config.shared = ""  # folder of zoos and flows for other runs too
    config.variant = variant
    base: Any = mnist.get_config("geometric")
    base.field.own_embedding = "fixed"
    base.flow.coupling = "equivariant"
    base.sampling.update({"networks": 32, "guidance_batch": 128, "guidance_rate": "falling"})
    base.averages = (1, 32)
    config.base = base
    config.task = "fashion_mnist"
    config.widths = (16, 32, 64)
    config.gradients = (32, 128)  # of one mini-batch each, for each network
    config.scales = (8.0, 32.0)  # of guidance
    config.rates = (0.01, 0.03, 0.1)  # of plain training
    config.update(CHANGES[variant])
    return config
