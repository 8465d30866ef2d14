"""From what was found about every axis of the weights to the labels of a `WeightSpec`."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from wfm.weights.layout import Layout, Stored
from wfm.weights.scaling import (
    NO_SCALING,
    LinearScaling,
    PositiveScaling,
    Scaling,
    SignScaling,
)
from wfm.weights.spec import Axes, Group
from wfm.weights.tracing.scales import Combination

IN, OUT = "in", "out"


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of an axis of a weight array: its size, node, and factor in terms of sites.

    `fixed`: why its order has a meaning, if it has. `reads`: whether signals are read along it.
    `beside`: the sites of the signals that it multiplies.
    """

    axis: int
    size: int
    node: int
    scale: Combination
    fixed: str | None
    reads: bool
    is_input: bool
    beside: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Site:
    """What some neurons say: which of their factors keep the function.

    `whole`: whether arrays have whole powers of these factors. If not, no label says them.
    """

    number: int
    sizes: bool
    signs: bool
    rectified: bool
    whole: bool

    @property
    def scaling(self) -> Scaling:
        if self.sizes and self.signs:
            return LinearScaling()
        if self.sizes:
            return PositiveScaling(rectifies=self.rectified)
        return SignScaling() if self.signs else NO_SCALING


@dataclasses.dataclass(frozen=True)
class Found:
    """All that the runs over a program found. Arrays are in the order of their use.

    `outputs`: the site that the outputs are, if they are one. `companions`: for each node those
    without which it is in no array and no signal.
    """

    arrays: Mapping[str, Sequence[Part]]
    sites: Sequence[Site]
    outputs: int | None
    n_outputs: int
    companions: Mapping[int, set[int]]


@dataclasses.dataclass
class Labels:
    """The labels, and the site and node of each group.

    `inner`: see `_inner`. `unsaid`: groups that may be rescaled, and no label says how.
    """

    groups: dict[str, Group]
    arrays: dict[str, Axes]
    powers: dict[str, dict[str, int]]
    layout: dict[str, Stored]
    sites: dict[str, int]
    nodes: dict[str, int]
    inner: dict[int, int]
    unsaid: set[str]


def label(found: Found, stored: Layout) -> Labels:
    """The labels of all arrays, where `stored` has them with their axes as they are."""
    labeller = _Labeller(found)
    made = Labels({}, {}, {}, {}, {}, {}, labeller.inner, set())
    for name, parts in found.arrays.items():
        array = [labeller.axis(name, run) for run in labeller.runs(parts)]
        order = _order(array)
        made.arrays[name] = tuple(array[i].names for i in order)
        own, split = stored[name], tuple(a.size for a in array)
        made.layout[name] = Stored(own.name, split, tuple(order), own.joined or own.split, own.part)
        powers, unsaid = labeller.powers([array[i] for i in order])
        made.unsaid |= unsaid
        if powers:
            made.powers[name] = powers
    made.groups = {
        name: dataclasses.replace(group, scaling=NO_SCALING) if name in made.unsaid else group
        for name, group in labeller.groups(made.arrays.values()).items()
    }
    made.sites = {name: site for site, name in labeller.names.items()}
    made.nodes = labeller.nodes
    return made


@dataclasses.dataclass(frozen=True)
class _Axis:
    """The label of an axis, and the powers with which factors of groups act on it."""

    size: int
    names: str | int | tuple[str, ...]
    powers: Mapping[str, int]
    reads: bool = False

    @property
    def enters(self) -> tuple[bool, bool]:
        """How likely the array enters a group along it: the largest is the one."""
        return any(power > 0 for power in self.powers.values()), not self.reads


def _order(axes: Sequence[_Axis]) -> list[int]:
    """The order of axes in which what an array enters is the last group."""
    order = list(range(len(axes)))
    named = [i for i in order if not isinstance(axes[i].names, int)]
    if named:
        entered = max(named, key=lambda i: (axes[i].enters, i))
        order.remove(entered)
        last = max((order.index(i) for i in named if i != entered), default=entered - 1)
        order.insert(max(last + 1, entered if entered == named[-1] else 0), entered)
    return order


class _Labeller:
    """Names groups as arrays that run over them are met."""

    def __init__(self, found: Found):
        self.found = found
        self.inner = _inner(found)
        self.sites = {site.number: site for site in found.sites}
        self.site_nodes = self._site_nodes()
        self.names = self._names()
        self.nodes = {name: self.site_nodes[site] for site, name in self.names.items()}
        self.inputs: dict[tuple[int, ...], str] = {}
        self.read_inputs: set[str] = set()
        self.others: dict[int, str] = {}  # orders of nodes without a site
        self.sizes = {p.node: p.size for parts in found.arrays.values() for p in parts}

    def _site_nodes(self) -> dict[int, int]:
        """The node of each site that can be labelled, in the order in which arrays enter them."""
        nodes: dict[int, int] = {}
        for sign in (1, -1):
            for name, parts in self.found.arrays.items():
                for part in parts:
                    for site, number in part.scale.items():
                        there = number.denominator == 1 and number * sign > 0
                        if there and site in self.sites and self._labelled(part, name, site):
                            nodes.setdefault(site, part.node)
        last = [s for s in nodes if s == self.found.outputs]
        return {s: nodes[s] for s in [*(s for s in nodes if s not in last), *last]}

    def _labelled(self, part: Part, array: str, site: int) -> bool:
        """Whether a site can be labelled on a part of an axis of an array.

        A fixed part of an axis beside others is a plain one, unless it can be rescaled.
        """
        if part.node in self.inner:
            return False
        whole = part.size == self._length(array, part.axis)
        return not part.fixed or whole or self.sites[site].scaling != NO_SCALING

    def _names(self) -> dict[int, str]:
        """A name for each site: that of the module whose weights first enter it."""
        names: dict[int, str] = {}
        for site in self.site_nodes:
            if site == self.found.outputs:
                names[site] = OUT
                continue
            array = next(
                name
                for sign in (1, -1)
                for name, parts in self.found.arrays.items()
                if any(part.scale.get(site, 0) * sign > 0 for part in parts)
            )
            names[site] = self._free_name(array, names.values())
        return self._short(names)

    def _short(self, names: dict[int, str]) -> dict[int, str]:
        """The same names without the modules in front that nothing needs to tell them apart."""
        found: dict[int, str] = {}
        for site, name in names.items():
            path = name.split(".")
            ends = [path[i:] for i in reversed(range(len(path))) if not path[i].isdigit()]
            alike = [other.split(".") for other in names.values() if other != name]
            found[site] = next(
                (".".join(e) for e in ends if not any(o[-len(e) :] == e for o in alike)), name
            )
        return found

    def _free_name(self, array: str, taken: Iterable[str]) -> str:
        module = array.rpartition(".")[0] or array
        wanted = [module, array, *(f"{array}.{n}" for n in range(2, 100))]
        return next(n for n in wanted if n not in {*taken, IN, OUT})

    def runs(self, parts: Sequence[Part]) -> list[list[Part]]:
        """Parts of one axis that have no site, a fixed order and read signals are one group."""
        runs: list[list[Part]] = []
        for axis in dict.fromkeys(part.axis for part in parts):
            own = [part for part in parts if part.axis == axis]
            whole = all(p.reads and p.fixed and not self._groups_of(p) for p in own)
            runs += [own] if whole else [[part] for part in own]
        return runs

    def _length(self, array: str, axis: int) -> int:
        return math.prod(p.size for p in self.found.arrays[array] if p.axis == axis)

    def _groups_of(self, part: Part) -> dict[str, int]:
        """The groups of sites on a part, with the powers of their factors, the left ones first."""
        scale = sorted(part.scale.items(), key=lambda item: (item[1] > 0, item[0]))
        return {
            self.names[site]: int(number)
            for site, number in scale
            if self.site_nodes.get(site) == part.node and number.denominator == 1
        }

    def axis(self, array: str, run: Sequence[Part]) -> _Axis:
        """The label of one axis."""
        part, size = run[0], math.prod(p.size for p in run)
        powers = self._groups_of(part)
        if self._reads_fixed(array, run, powers):
            powers = {self._input(array, run): -1} | powers
        if part.node in self.inner or (part.fixed and not powers):
            return _Axis(size, size, {})
        if not powers and size == 1:
            return _Axis(size, size, {})
        if not powers:
            powers = {self._order_of(array, part): 0}
        names = tuple(powers)
        return _Axis(size, names[0] if len(names) == 1 else names, powers, part.reads)

    def _reads_fixed(self, array: str, run: Sequence[Part], powers: Mapping[str, int]) -> bool:
        """Whether an axis reads signals of a fixed order that no group says so far.

        Beside another axis that reads, as after the flattening of an image, it is a plain one.
        """
        part = run[0]
        whole = math.prod(p.size for p in run) == self._length(array, part.axis)
        if not (part.fixed and part.reads and whole) or any(p < 0 for p in powers.values()):
            return False
        others = [p for p in self.found.arrays[array] if p not in run]
        alone = not any(p.reads and (p.is_input or self._groups_of(p)) for p in others)
        return part.is_input or (not powers and alone)

    def _input(self, array: str, run: Sequence[Part]) -> str:
        """The group of fixed neurons that are read along an axis, such as the inputs."""
        key = tuple(part.node for part in run)
        if key not in self.inputs:
            taken = {*self.inputs.values(), *self.names.values(), *self.others.values()}
            if run[0].is_input:
                name = next(n for n in (IN, *(f"{IN}{i}" for i in range(2, 100))) if n not in taken)
            else:
                name = self._free_name(f"{array}.read", taken)
            self.read_inputs |= {name} if run[0].is_input else set()
            self.inputs[key] = name
            self.nodes[name] = key[0]
            self.sizes[key[0]] = math.prod(part.size for part in run)
        return self.inputs[key]

    def _order_of(self, array: str, part: Part) -> str:
        """A group in whose order the neurons are: best the one whose signals they multiply."""
        for site in part.beside:
            if self.site_nodes.get(site) == part.node:
                return self.names[site]
        for name, node in self.nodes.items():
            if node == part.node:
                return name
        taken = {*self.names.values(), *self.inputs.values()}
        name = self._free_name(array, taken)
        self.others[part.node], self.nodes[name] = name, part.node
        return name

    def powers(self, axes: Sequence[_Axis]) -> tuple[dict[str, int], set[str]]:
        """The powers that differ from those that the labels alone say.

        Also the groups for which this is not enough: an array has one power for all its axes over a
        group.
        """
        ends = [(g, p) for axis in axes for g, p in axis.powers.items()]
        usual = [-1] * (len(ends) - 1) + [1] if ends else []
        found: dict[str, int] = {}
        for (group, power), expected in zip(ends, usual, strict=True):
            free = self._scaling(group) != NO_SCALING
            if power != expected and (free or power == 0):
                found[group] = power
        said = [
            found.get(group, expected) for (group, _), expected in zip(ends, usual, strict=True)
        ]
        wrong = {group for (group, power), p in zip(ends, said, strict=True) if p != power}
        return found, {group for group in wrong if self._scaling(group) != NO_SCALING}

    def _scaling(self, group: str) -> Scaling:
        site = next((s for s, name in self.names.items() if name == group), None)
        return NO_SCALING if site is None else self.sites[site].scaling

    def groups(self, arrays: Iterable[Axes]) -> dict[str, Group]:
        """All groups: inputs first, then in the order in which arrays name them, then outputs."""
        axes = [(a,) if isinstance(a, str) else a for axes in arrays for a in axes]
        named = dict.fromkeys(name for a in axes if not isinstance(a, int) for name in a)
        inputs = [name for name in named if name in self.read_inputs]
        others = [name for name in named if name not in (*inputs, OUT)]
        fixed = {p.node for parts in self.found.arrays.values() for p in parts if p.fixed}
        made: dict[str, Group] = {}
        first: dict[int, str] = {}
        for name in [*inputs, *others]:
            node = self.nodes[name]
            made[name] = Group(
                self.sizes[node], node not in fixed, self._scaling(name), first.get(node)
            )
            first.setdefault(node, name)
        node = self.nodes.get(OUT)
        order = None if node is None else first.get(node)
        return made | {OUT: Group(self.found.n_outputs, False, order=order)}


def _inner(found: Found) -> dict[int, int]:
    """Nodes inside of other neurons, such as the units of heads, and these neurons' nodes.

    Each of the outer neurons could permute its inner ones on its own. No label says so, and they
    stay plain.
    """
    first: dict[int, int] = {}
    for parts in found.arrays.values():
        for part in parts:
            if not part.fixed and part.size > 1:
                first.setdefault(part.node, len(first))
    inner: dict[int, int] = {}
    for node in sorted(first, key=lambda n: first[n], reverse=True):
        outer = [n for n in found.companions.get(node, ()) if n in first and n not in inner]
        if outer:
            inner[node] = outer[0]
    return inner
