"""What was not labelled, and why, in words."""

from wfm.weights.tracing.labels import Found, Labels
from wfm.weights.tracing.runs import Runs

EVIDENT = ("an axis of the input", "an axis of the outputs")


def notes(runs: Runs, found: Found, labels: Labels) -> tuple[str, ...]:
    """Axes whose order is fixed, and neurons that cannot be rescaled, with the reasons."""
    axes: dict[str, list[str]] = {}
    for name, parts in found.arrays.items():
        for part in parts:
            if part.fixed and part.fixed not in EVIDENT and part.size > 1:
                axes.setdefault(part.fixed, []).append(f"axis {part.axis} of {name!r}")
    said = [f"the order has a meaning, as {why}: {', '.join(a)}" for why, a in axes.items()]
    names = {site: group for group, site in labels.sites.items()}
    for site in found.sites:
        if site.number in names and site.number != found.outputs and not site.sizes:
            why = runs.run.broken.get(site.number, "")
            what = "no factor but ±1" if site.signs else "no factor"
            said.append(f"{names[site.number]!r} may have {what}: {why}")
    return tuple(said)


def left(found: Found, labels: Labels) -> tuple[str, ...]:
    """Symmetries that were seen and that labels do not say."""
    said = {}
    outer = {node: name for name, node in labels.nodes.items()}
    labelled = set(labels.sites.values())
    halves = {site.number for site in found.sites if not site.whole}
    free = {site.number for site in found.sites if site.sizes or site.signs or not site.whole}
    for name, parts in found.arrays.items():
        for part in parts:
            of = outer.get(labels.inner.get(part.node, -1))
            if of:
                said.setdefault(f"what may act inside of each neuron of {of!r}", []).append(
                    f"axis {part.axis} of {name!r}"
                )
            elif part.scale.keys() & (free - labelled | halves):
                said.setdefault("factors that cancel", []).append(f"axis {part.axis} of {name!r}")
    return tuple(f"{what}: {', '.join(axes)}" for what, axes in said.items())
