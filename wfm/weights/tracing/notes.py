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


def left(runs: Runs, found: Found, labels: Labels) -> tuple[str, ...]:
    """Symmetries that labels do not say: some that were seen, and some that there may be."""
    return (*_seen(found, labels), *_possible(runs, labels))


def _seen(found: Found, labels: Labels) -> list[str]:
    said: dict[str, list[str]] = {}
    outer = {node: name for name, node in labels.nodes.items()}
    labelled = {site for name, site in labels.sites.items() if name not in labels.unsaid}
    free = {site.number for site in found.sites if site.sizes or site.signs or not site.whole}
    halves = {site.number for site in found.sites if not site.whole}
    for name, parts in found.arrays.items():
        for part in parts:
            place = f"axis {part.axis} of {name!r}"
            of = outer.get(labels.inner.get(part.node, -1))
            if of:
                said.setdefault(f"what may act inside of each neuron of {of!r}", []).append(place)
            elif part.scale.keys() & (free - labelled | halves):
                said.setdefault("factors that cancel", []).append(place)
    return [f"{what}: {', '.join(places)}" for what, places in said.items()]


def _possible(runs: Runs, labels: Labels) -> list[str]:
    """Freedoms that depend on values, which no rule looks at; distances are then upper bounds."""
    orders = {
        labels.nodes[n]: n for n, g in labels.groups.items() if not g.order and n in labels.nodes
    }
    said = [
        f"what neurons of {orders[node]!r} may have in common, as sums over them do not see it"
        for node in sorted(runs.run.collapsed & orders.keys())
    ]
    constants = [repr(name) for name, by_group in labels.powers.items() if 0 in by_group.values()]
    if constants:
        said.append(f"changes of {', '.join(constants)} that other arrays may make up for")
    orders_of = [g.order or n for n, g in labels.groups.items()]
    for name, group in labels.groups.items():
        shared = orders_of.count(group.order or name) > 1
        if group.scaling.linear and shared and _has_bias(labels, name):
            said.append(f"shifts of {name!r}, which biases after it may take back")
    return said


def _has_bias(labels: Labels, group: str) -> bool:
    """Whether an array over this group alone enters it."""
    named = ([a for a in axes if not isinstance(a, int)] for axes in labels.arrays.values())
    return any(axes == [group] for axes in named)
