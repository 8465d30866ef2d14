"""The page of the Gaussian toy: one run of `experiments.gaussian`.

python -m experiments.publish.gaussian docs/results/gaussian RUN
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments import gaussian
from experiments.publish import page

COMMAND = "python -m experiments.gaussian --config=configs/gaussian.py --workdir=runs/gaussian"


def publish(target: Path, runs: Sequence[Path]) -> None:
    """Write the page, its records and its picture."""
    (run,) = runs
    samples = page.load(run, "results")["samples"]
    body = [
        f"`{COMMAND}`. {page.cost(run)}",
        gaussian.table(samples),
        f"![Weights and mean weights of samples, beside the truth]({target.name}.png)",
    ]
    rows = [
        page.record(run, COMMAND, row, metric, {"value": value})
        for row, figures in samples.items()
        for metric, value in figures.items()
    ]
    page.write(target, run, "\n\n".join(body), rows)
    shutil.copy(run / "figures" / "gaussian.png", target.with_suffix(".png"))


if __name__ == "__main__":
    page.main(publish)
