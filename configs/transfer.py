"""The MNIST flow used for Fashion-MNIST and for other widths: `experiments.transfer`.

Command    python -m experiments.transfer --config=configs/transfer.py --workdir=runs/transfer
Hardware   2 CPU cores
Time       on one core, widths 16 and 32: 27 minutes beside other runs, and a zoo and a flow, 5 more
Expected   docs/results/transfer.md
"""

from typing import Any

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
    """An equivariant field, which serves networks of every width."""
    config: Any = ConfigDict()
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
    return config
