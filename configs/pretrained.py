"""The flows that a release brings: breast cancer 30-16-16-2, and MNIST 784-10-10.

Command    make flows
Hardware   2 CPU cores, 4.5 GB
Time       breast_cancer 4 minutes, mnist 40 minutes
Expected   breast_cancer as in docs/results/demo.md; mnist: samples 0.84 accuracy, trained 0.94
"""

from configs.base import mnist
from configs.demo import EXPLANATION, compared
from configs.demo import get_study as demo
from experiments.pages import Cost, Text
from experiments.study import Study

VARIANTS = ("breast_cancer", "mnist")
MEASURES = ("quality", "novelty")


def get_study(variant: str = "breast_cancer") -> Study:
    """One flow, in minutes: what `python -m experiments export` writes with its card."""
    base = mnist() if variant == "mnist" else demo().base
    return Study("pretrained", base, MEASURES, page=(Cost(), compared({}), Text(EXPLANATION)))
