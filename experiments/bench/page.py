"""The page of benchmarks: this code and PyTorch, growth with size, and other work."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments import plots
from experiments import records as r
from experiments.curves import Drawn
from experiments.pages import Page
from experiments.records import Record

MEANINGS = (
    "Seconds are medians of five calls after the first, which compiles. Peak MB are those of the "
    "whole process. Arrays MB are what a step works on: of this code on each of two devices, from "
    "the compiler; of PyTorch by how much the process grows in the first step."
)
KINDS = {"graph": "neighbours", "fold": "neighbours, folded", "full": "all pairs"}
ALIGNMENTS = ("weights", "activations", "sinkhorn_l2", "sinkhorn_mid")
COUPLINGS = ("independent", "ot", "entropic", "equivariant")
RIVALS = {
    "train_small": "Training step, 30-16-16-2, 5 layers, width 64, batch 32",
    "train_wide": "Training step, 784-10-10, 5 layers, width 32, batch 8",
    "sample_small": "32 networks 30-16-16-2 in 100 Euler steps, same field",
    "sample_wide": "8 networks 784-10-10 in 100 Euler steps, same field",
}
Case = dict[str, Any]


class Cases:
    """The figures of a run, and the options that they were measured with."""

    def __init__(self, found: Sequence[Record], config: dict[str, Any]):
        groups = r.grouped(r.where(found, {"case": r.known}), "case")
        self.figures = {name: _nested(mine) for (name,), mine in groups.items()}
        self.options = {name: case["options"] for name, case in config.items()}
        self.env = {name: case["env"] for name, case in config.items()}

    def finished(self, prefix: str) -> list[str]:
        """Names with this prefix of cases that did not fail."""
        return [n for n, f in self.figures.items() if n.startswith(prefix) and "failed" not in f]

    def scaled(self, name: str, size: str) -> tuple[float, float, float]:
        """Seconds, peak MB and MB of arrays for a whole batch, or for all samples, of `size`.

        A case that ran with fewer examples or steps is multiplied by the factor by which it is
        smaller. Memory of arrays grows with the examples; that of the process grows by as much.
        """
        whole, part = self.options[f"{size}_graph"], self.options[name]
        examples = "batch" if "batch" in whole else "networks"
        more = whole[examples] / part[examples]
        steps = whole["steps"] / part["steps"] if examples == "networks" else 1
        figures = self.figures[name]
        arrays = figures["buffers_mb"] * more
        peak = figures["peak_mb"] - figures["buffers_mb"] + arrays
        return figures["seconds"]["median"] * more * steps, peak, arrays


def _nested(found: Sequence[Record]) -> Case:
    """Figures by metric, with those of `seconds` together."""
    figures: Case = {}
    for x in found:
        first, _, inner = x.metric.partition(" ")
        (figures.setdefault(first, {}) if inner else figures)[inner or first] = x.value
    return figures


def rivals(cases: Cases, size: str, title: str) -> str:
    """One network size: this code and the fastest PyTorch."""
    best_rival = min(cases.scaled(name, size)[0] for name in cases.finished(f"{size}_torch"))
    lines = [
        f"**{title}**",
        "",
        "| system | seconds | range | first call | times faster | peak MB | arrays MB "
        "| share of matmul rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in [f"{size}_{kind}" for kind in KINDS if f"{size}_{kind}" in cases.figures]:
        f = cases.figures[name]
        share = f["product_flops"] / f["seconds"]["median"] / f["matmul_rate"]
        lines.append(
            f"| wfm, {KINDS[name.removeprefix(size + '_')]} | {_span(f)} "
            f"| {best_rival / f['seconds']['median']:,.1f} | {f['peak_mb']:,.0f} "
            f"| {f['buffers_mb']:,.0f} | {share:.0%} |"
        )
    for name in cases.finished(f"{size}_torch"):
        seconds, peak, arrays = cases.scaled(name, size)
        f, factor = cases.figures[name], seconds / cases.figures[name]["seconds"]["median"]
        note = f" (measured with {_part(cases.options[name])})" if factor != 1 else ""
        lines.append(
            f"| PyTorch, all pairs, {_torch(name, cases)}{note} | {_span(f, factor)} "
            f"| {best_rival / seconds:.1f} | {peak:,.0f} | {arrays:,.0f} | |"
        )
    return "\n".join(lines)


def _torch(name: str, cases: Cases) -> str:
    o = cases.options[name]
    words = [f"{o['threads']} threads", "compiled" if o["compiled"] else "not compiled"]
    return ", ".join(words + ["keeping memory"] * ("MALLOC_MMAP_MAX_" in cases.env[name]))


def _part(options: Case) -> str:
    if "batch" in options:
        return f"batch {options['batch']}"
    return f"{options['networks']} networks and {options['steps']} steps"


def _span(figures: Case, factor: float = 1.0) -> str:
    s = {k: v if k == "first" else v * factor for k, v in figures["seconds"].items()}
    return f"{s['median']:.3g} | {s['least']:.3g} to {s['most']:.3g} | {s['first']:.0f}"


def roofline(cases: Cases) -> str:
    """How much of a core's rate a step reaches, and how much its products would by themselves."""
    lines = []
    for name in cases.finished("roofline"):
        f = cases.figures[name]
        step, alone = f["seconds"]["median"], f["product_seconds"]
        shares = (f["product_flops"] / s / f["matmul_rate"] for s in (step, alone))
        whole, most = (f"{share:.0%}" for share in shares)
        lines.append(
            f"On one core the first step takes {step:.3g} s, {whole} of a large product's rate. "
            f"Its products alone, each in its own shape, take {alone:.3g} s, {most}."
        )
    return "\n\n".join(lines)


def growth(cases: Cases) -> dict[str, np.ndarray]:
    """Rows of (weights, seconds, MB of buffers) for each kind of graph, from small to large."""
    return {
        kind: np.array(
            sorted(
                (f["weights"], f["seconds"]["median"], f["buffers_mb"])
                for f in (cases.figures[n] for n in cases.finished(f"grow_{kind}"))
            )
        )
        for kind in KINDS
    }


def growth_table(grown: dict[str, np.ndarray]) -> str:
    """Seconds and MB by number of weights, and slopes of straight lines through the logs."""
    lines = ["| graph | weights | seconds a step | arrays MB |", "|---|---|---|---|"]
    for kind, rows in grown.items():
        lines += [f"| {KINDS[kind]} | {w:,.0f} | {s:.3g} | {mb:,.1f} |" for w, s, mb in rows]
        time, memory = slopes(rows)
        lines.append(f"| {KINDS[kind]} | slope of the logs | {time:.2f} | {memory:.2f} |")
    return "\n".join(lines)


def slopes(rows: np.ndarray) -> tuple[float, float]:
    """Exponents of the growth of time and memory with the number of weights, from 10³ on."""
    logs = np.log(rows[rows[:, 0] > 1000])
    time, memory = (float(np.polyfit(logs[:, 0], logs[:, i], 1)[0]) for i in (1, 2))
    return time, memory


def _draw(grown: dict[str, np.ndarray], file: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, column, label in zip(axes, (1, 2), ("seconds a training step", "MB"), strict=True):
        for kind, rows in grown.items():
            axis.loglog(rows[:, 0], rows[:, column], "o-", label=KINDS[kind])
        axis.set(xlabel="weights of the base network", ylabel=label)
    axes[0].legend()
    plots.save(figure, file)


def rest(cases: Cases) -> str:
    """Zoos, densities, couplings and alignment, one line each."""
    f, ours, theirs = cases.figures, "zoo", "zoo_torch"
    each = {n: f[n]["seconds"]["median"] / cases.options[n]["networks"] for n in (ours, theirs)}
    lines = [
        "| work | seconds | range | first call |",
        "|---|---|---|---|",
        f"| training {cases.options[ours]['networks']} networks at once, "
        f"{each[theirs] / each[ours]:,.0f} times faster each than in a PyTorch loop | "
        f"{_span(f[ours])} |",
        f"| training {cases.options[theirs]['networks']} networks in a PyTorch loop "
        f"| {_span(f[theirs])} |",
        f"| log-densities of {cases.options['densities']['networks']} networks, "
        f"{cases.options['densities']['steps']} steps | {_span(f['densities'])} |",
    ]
    for name in COUPLINGS:
        batch = cases.options[f"coupling_{name}"]["batch"]
        lines.append(f"| pairing {batch} networks, {name} | {_span(f[f'coupling_{name}'])} |")
    for name in ALIGNMENTS:
        n = cases.options[f"alignment_{name}"]["networks"]
        lines.append(f"| aligning {n:,} networks, {name} | {_span(f[f'alignment_{name}'])} |")
    return "\n".join(lines)


def manifolds(cases: Cases) -> str:
    """Operations on spheres, by this code and by geoopt."""
    lines = ["| operation | points | wfm, ns a point | geoopt, ns a point |", "|---|---|---|---|"]
    for name in cases.finished("manifold"):
        dim, found = cases.options[name]["dim"], cases.figures[name]
        for operation in sorted({key.split("_")[0] for key in found}):
            ours, theirs = (found[f"{operation}_{whose}_ns"] for whose in ("wfm", "geoopt"))
            lines.append(f"| {operation} | unit vectors in {dim} | {ours:,.0f} | {theirs:,.0f} |")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Bench(Drawn):
    """All tables, and the picture of growth."""

    def markdown(self, page: Page) -> str:
        cases = self._cases(page)
        return "\n\n".join(
            [
                MEANINGS,
                *(rivals(cases, size, title) for size, title in RIVALS.items()),
                *filter(None, [roofline(cases)]),
                "**Growth**: training steps of 30-h-h-2, 2 layers, width 32, batch 2",
                super().markdown(page),
                growth_table(growth(cases)),
                "**Other work**",
                rest(cases),
                "**Manifolds**: 10,000 points at a time",
                manifolds(cases),
            ]
        )

    def draw(self, page: Page) -> None:
        _draw(growth(self._cases(page)), self.path(page))

    def _cases(self, page: Page) -> Cases:
        return Cases(page.records, page.study.base.cases.to_dict())
