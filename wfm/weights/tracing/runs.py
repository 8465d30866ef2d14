"""Runs of the analysis over a program, until nothing changes."""

from wfm.weights.tracing.labels import Part, Site
from wfm.weights.tracing.nodes import Nodes, Pin
from wfm.weights.tracing.program import Program
from wfm.weights.tracing.rules import RULES, unknown
from wfm.weights.tracing.scales import Combination, Free, Sites
from wfm.weights.tracing.values import Analysis, Axis, Factor, Value

ROUNDS = 50  # each one joins, splits or fixes at least one more axis


class Runs:
    """What is known of the weights, which are all inputs of the program but the last."""

    def __init__(self, program: Program):
        self.program, self.nodes = program, Nodes()
        for _ in range(ROUNDS):
            before = self.nodes.changes
            self.sites = Sites()
            self._own = self._unknowns()
            self.values: dict[int, Value] = {}
            self.run = self._over(self.sites, self._own)
            if self.nodes.changes == before:
                break
        else:
            raise AssertionError("the axes of this program do not settle")
        self._reads, self._beside = self.run.reads, self.run.beside
        self.scales = {place: self.sites.normal(a) for place, a in self._own.items()}
        self.free = Free()
        self.run = self._over(self.free, self.scales)
        assert self.nodes.changes == before, "the axes changed once they were settled"

    def parts_of(self, weight: int, used: bool) -> list[Part]:
        """All parts of the axes of one weight array, in order."""
        found = []
        for i, nodes in enumerate(self.parts(weight)):
            for j, node in enumerate(nodes):
                pin, place = self.nodes.pinned(node), (weight, i, j)
                why = (pin.why if pin else None) if used else "the function does not use it"
                reads = used and bool(self._own[place].keys() & self._reads)
                is_input = reads and bool(pin and pin.is_input)
                size, scale = self.nodes.size(node), self.scales[place] if used else {}
                (own,) = self._own[place]
                beside = self.sites.normal(self._beside.get(own, {}))
                found.append(Part(i, size, node, scale, why, reads, is_input, tuple(beside)))
        return found

    def found_sites(self) -> list[Site]:
        """The sites, and other unknowns that turned out to be free."""
        unknowns = {u: None for scale in self.scales.values() for u in scale}
        ordered = sorted(self.sites.sites, key=lambda site: self.sites.sites[site])
        rest = [u for u in unknowns if u not in self.sites.sites and self._is_free(u)]
        return [self._site(number) for number in [*ordered, *rest]]

    def _is_free(self, unknown: int) -> bool:
        return unknown not in self.free.bound or unknown not in self.free.one_sign

    def _site(self, number: int) -> Site:
        powers = [scale[number] for scale in self.scales.values() if number in scale]
        whole = all(power.denominator == 1 for power in powers)
        sizes = whole and number not in self.free.bound
        signs = whole and number not in self.free.one_sign
        return Site(number, sizes, signs, number not in self.run.raw, whole)

    def outputs(self) -> tuple[int | None, int]:
        """The site that the outputs are, if they are one, and their number."""
        (number,) = self.program.outputs
        axis = self.run.as_value(self.values[number], 0).axes[-1]
        factors = self.run.factors(axis)
        scale = factors[0].log if len(factors) == 1 else {}
        site = next(iter(scale)) if len(scale) == 1 and set(scale.values()) == {1} else None
        return site, axis.size

    def companions(self) -> dict[int, set[int]]:
        """For each node those without which it is in no weight array and no signal."""
        homes: list[set[int]] = [
            {node for nodes in self.parts(weight) for node in nodes}
            for weight in range(len(self.program.inputs) - 1)
        ]
        homes += [
            {self.nodes.root(f.node) for f in value.factors}
            for value in self.values.values()
            if value.signal
        ]
        found: dict[int, set[int]] = {}
        for home in homes:
            for node in home:
                found[node] = found.get(node, home) & home
        return {node: others - {node} for node, others in found.items()}

    def said(self, sites: dict[str, int], nodes: dict[str, int]) -> dict[str, tuple[int, int]]:
        """For each group the last value of the program that its neurons say, and their axis."""
        found: dict[str, tuple[int, int]] = {}
        for number, value in self.values.items():
            for i, axis in enumerate(value.axes):
                if not value.signal or axis.factors is None or len(axis.factors) != 1:
                    continue
                (factor,) = axis.factors
                for group, node in nodes.items():
                    own = {sites[group]: 1} if group in sites else {}
                    if self.nodes.root(factor.node) == node and factor.log == own:
                        found[group] = number, i
        return found

    def parts(self, weight: int) -> list[list[int]]:
        """The nodes of each axis of the array with this number."""
        shape = self.program.shapes[self.program.inputs[weight]].shape
        kept = [self.nodes.kept(("weight", weight, i), n) for i, n in enumerate(shape)]
        return [list(self.nodes.expand(node)) for node in kept]

    def _unknowns(self) -> dict[tuple[int, int, int], Combination]:
        """One unknown for each part of each axis of each weight array."""
        return {
            (weight, i, j): self.sites.unknown()
            for weight in range(len(self.program.inputs) - 1)
            for i, parts in enumerate(self.parts(weight))
            for j, _ in enumerate(parts)
        }

    def _over(self, scales: Sites | Free, unknowns: dict) -> Analysis:
        run, program = Analysis(self.nodes, scales), self.program
        values = {i: Value((), constant=c) for i, c in program.constants.items()}
        values |= self._inputs(run, unknowns)
        for place, operation in enumerate(program.operations):
            run.place, run.operation, run.count = place, operation, 0
            run.made = [program.shapes[i] for i in operation.makes]
            read = [run.as_value(values[i], k) for k, i in enumerate(operation.reads)]
            made = RULES.get(operation.name, unknown)
            for number, value in zip(operation.makes, made(run, operation, *read), strict=True):
                shape = program.shapes[number].shape
                assert value.shape == shape, f"{operation.name}: {value.shape}, not {shape}"
                values[number] = value
        run.operation = None
        for number in program.outputs:
            axes = run.as_value(values[number], 0).axes
            run.fix(axes, "an axis of the outputs")
            for axis in axes:
                run.break_(axis, "outputs stay as they are")
        self.values = values
        return run

    def _inputs(self, run: Analysis, unknowns: dict) -> dict[int, Value]:
        *weights, x = self.program.inputs
        values = {}
        for weight, number in enumerate(weights):
            shape = self.program.shapes[number].shape
            axes = []
            for i, parts in enumerate(self.parts(weight)):
                scales = [unknowns[weight, i, j] for j, _ in enumerate(parts)]
                factors = [
                    Factor(node, scale, frozenset(u for u, n in scale.items() if n % 2))
                    for node, scale in zip(parts, scales, strict=True)
                ]
                axes.append(Axis(shape[i], tuple(factors)))
            values[number] = Value(tuple(axes))
        axes = []
        for i, n in enumerate(self.program.shapes[x].shape):
            node = self.nodes.kept(("input", i), n)
            self.nodes.pin(node, Pin("an axis of the input", is_input=True))
            axes.append(Axis(n, (Factor(node),)))
        return values | {x: Value(tuple(axes), signal=True)}
