"""The flows that a release brings: breast cancer 30-16-16-2, and MNIST 784-10-10.

Command    python -m experiments run pretrained --workdir=runs/pretrained; make flows
Hardware   2 CPU cores, 4.5 GB
Time       breast cancer: 190 s; mnist: 36 minutes beside other work, 20 of them the zoo
Expected   docs/results/demo.md; mnist 0.832 ± 0.040 at novelty 1.007 ± 0.021 (zoo 0.941)
"""

from configs.base import mnist
from configs.demo import EXPLANATION, compared
from configs.demo import get_study as demo
from configs.mnist_ablation import LONG
from experiments.pages import Cost, Text
from experiments.study import Study

VARIANTS = ("mnist",)
MEASURES = ("quality", "novelty")


def get_study(variant: str = "") -> Study:
    """One flow, in minutes: what `python -m experiments export` writes with its card."""
    base = mnist() if variant else demo().base
    if variant:
        base.training.update(LONG)  # as in the headline of docs/results/mnist.md
    name = "-".join(filter(None, ("pretrained", variant)))
    return Study(name, base, MEASURES, page=(Cost(), compared({}), Text(EXPLANATION)))
