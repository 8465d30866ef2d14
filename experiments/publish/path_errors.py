"""The page of where on the path quality is lost: runs of `experiments.path_errors`.

python -m experiments.publish.path_errors docs/results/mnist-path RUN [RUN …]
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from configs import path_errors
from experiments.publish import page

COMMAND = "python -m experiments.path_errors --config=configs/path_errors.py:{kind} --workdir={run}"
METRICS = {"accuracy": "", "loss": "nats", "average": "", "novelty": "", "flow_loss": ""}
DRAWN = {"accuracy": "test accuracy", "loss": "test loss (nats)", "flow_loss": "loss of the flow"}
STYLES = {"seen": "o-", "unseen": "s--"}


def table(run: Path) -> str:
    """Figures of seen / unseen networks, led on from every time."""
    results = page.load(run, "results")
    found = {(p["networks"], p["t"]): p for p in results["points"]}
    lines = [f"| t | {' | '.join(METRICS)} |", "|---" * (1 + len(METRICS)) + "|"]
    times = dict.fromkeys(t for _, t in found)
    rows = {f"{t:g}": {name: found[name, t] for name in STYLES} for t in times}
    for t, sets in (rows | {"as trained": results["zoo"]}).items():
        cells = [
            " / ".join(f"{sets[name][metric]:.4f}" for name in STYLES if metric in sets[name])
            for metric in METRICS
        ]
        lines.append(f"| {t} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(runs: Sequence[Path], path: Path) -> None:
    """Every figure against the time, a colour for each flow."""
    figure, grid = plt.subplots(1, len(DRAWN), figsize=(13, 3.8), layout="constrained")
    for number, run in enumerate(runs):
        results = page.load(run, "results")
        for axes, (metric, title) in zip(grid, DRAWN.items(), strict=True):
            for name, style in STYLES.items():
                mine = [p for p in results["points"] if p["networks"] == name]
                x, y = ([p[key] for p in mine] for key in ("t", metric))
                axes.plot(x, y, style, color=f"C{number}", label=f"{_kind(run)}, {name}")
            axes.set(xlabel="set back to t", ylabel=title)
    zoo = page.load(runs[0], "results")["zoo"]["unseen"]
    for axes, metric in zip(grid[:2], DRAWN, strict=False):  # the zoo has no loss of a flow
        axes.axhline(zoo[metric], color="0.7", zorder=0, label="trained networks")
    grid[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def records(run: Path) -> list[page.Record]:
    """One flat record for each figure of each set of networks, from each time and as trained."""
    kind, command = _kind(run), _command(run)
    row = lambda p: f"{kind}, {p['networks']}, t = {p['t']:g}"  # noqa: E731
    as_trained = [
        record
        for name, figures in page.load(run, "results")["zoo"].items()
        for record in page.records_of_figures(
            run, command, f"{kind}, {name}, as trained", figures, METRICS
        )
    ]
    return page.records_of_points(run, command, row, METRICS) + as_trained


def section(run: Path) -> str:
    """All that one run found."""
    return (
        f"## {_kind(run).capitalize()}, seed {page.load(run, 'results')['seed']}\n\n"
        f"`{_command(run)}`. {page.cost(run)}\n\n{table(run)}"
    )


def _kind(run: Path) -> str:
    return page.load(run, "config")["base"]["flow"]["kind"]


def _command(run: Path) -> str:
    kind = _kind(run)
    command = COMMAND.format(kind=kind, run=run)
    return command + page.options(run, path_errors.get_config(kind))


def publish(target: Path, runs: Sequence[Path]) -> None:
    """Write the page, its records and its picture."""
    picture = f"![Quality and loss of the flow against the time set back to]({target.name}.png)"
    body = "\n\n".join([picture, *map(section, runs)])
    page.write(target, runs[0], body, [record for run in runs for record in records(run)])
    draw(runs, target.with_suffix(".png"))


if __name__ == "__main__":
    page.main(publish)
