"""What is known of a value: which neurons its axes run over, and how they rescale it."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from wfm.weights.tracing.nodes import CannotSplit, Nodes, Pin
from wfm.weights.tracing.program import Operation
from wfm.weights.tracing.scales import NONE, Combination, Free, Sites, plus

Signs = frozenset[int]


@dataclasses.dataclass(frozen=True)
class Factor:
    """A part of an axis that runs over one node, and the factor of each of its neurons.

    `log`: the logarithm of its size; `sign`: the unknowns whose signs it has.
    """

    node: int
    log: Combination = dataclasses.field(default_factory=dict)
    sign: Signs = frozenset()


Atom = Factor | int
A = TypeVar("A", bound=Atom)


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis over these factors, the slowest first; if `None`, all along it is the same."""

    size: int
    factors: tuple[Factor, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Value:
    """What is known of one value of the program.

    `signal`: whether it depends on the input. `rectified`: whether it is never below 0, and 0
    where what it was made from is not positive, as after ReLU.
    """

    axes: tuple[Axis, ...]
    signal: bool = False
    constant: Any = None
    rectified: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def factors(self) -> list[Factor]:
        return [f for axis in self.axes for f in axis.factors or ()]

    def with_factors(self, act: Callable[[Factor], Factor]) -> "Value":
        """The value with `act` on each of its factors."""
        axes = (Axis(a.size, a.factors and tuple(map(act, a.factors))) for a in self.axes)
        return dataclasses.replace(self, axes=tuple(axes))

    @property
    def has_no_scale(self) -> bool:
        """Whether it is a constant of numbers that stay the same times anything positive."""
        if self.constant is None:
            return False
        constant = np.asarray(self.constant)
        return bool(((constant == 0) | np.isinf(constant)).all())

    @property
    def is_zero(self) -> bool:
        return self.constant is not None and bool((np.asarray(self.constant) == 0).all())


class Analysis:
    """The state of one run over a program, and what all rules for operations are made of."""

    def __init__(self, nodes: Nodes, scales: Sites | Free):
        self.nodes, self.scales = nodes, scales
        self.place: object = None  # of the operation in the program
        self.operation: Operation | None = None
        self.raw: set[int] = set()  # sites that other neurons see before they are rectified
        self.broken: dict[int, str] = {}  # what keeps a site from being rescaled in size
        self.count = 0
        self.made: list[Any] = []  # shapes that the operation makes
        self.reads: set[int] = set()  # unknowns of axes of weights that read signals
        self.collapsed: set[int] = set()  # nodes that signals are summed over without weights
        self.beside: dict[int, Combination] = {}  # for unknowns of weights, signals they multiply

    # Axes

    def pin(self, why: str) -> Pin:
        where = f" in {self.operation.where}" if self.operation else ""
        return Pin(why + where)

    def fixed(self, size: int, why: str, key: object = None) -> Axis:
        """A new axis whose places have a meaning."""
        self.count += 1
        node = self.nodes.kept((self.place, self.count if key is None else key), size)
        self.nodes.pin(node, self.pin(why))
        return Axis(int(size), (Factor(node),))

    def factors(self, axis: Axis) -> list[Factor]:
        """The factors of an axis by now; one that was split since has no scale in this run."""
        found = []
        for factor in axis.factors or ():
            parts = self.nodes.expand(factor.node)
            one = len(parts) == 1
            found += [dataclasses.replace(factor, node=parts[0])] if one else map(Factor, parts)
        return found

    def fix(self, axes: Iterable[Axis], why: str) -> None:
        """The order along these axes has a meaning."""
        for factor in (f for axis in axes for f in self.factors(axis)):
            self.nodes.pin(factor.node, self.pin(why))

    def is_fixed(self, axis: Axis) -> bool:
        return all(self.nodes.pinned(f.node) for f in self.factors(axis))

    def expand(self, atoms: Sequence[Atom]) -> list[Atom]:
        """The parts by now of factors, and of sizes of axes that are the same all along."""
        return [
            p for a in atoms for p in ([a] if isinstance(a, int) else self.factors(Axis(0, (a,))))
        ]

    def size(self, atom: Atom) -> int:
        return atom if isinstance(atom, int) else self.nodes.size(atom.node)

    def drop(self, *atoms: Atom) -> None:
        """Single neurons whose axis goes are not rescaled."""
        self.break_(Axis(1, tuple(a for a in atoms if isinstance(a, Factor))), "its axis goes")

    def take(self, atoms: Sequence[A], size: int) -> tuple[list[A], list[A]]:
        """The first atoms, of this size in all, and the rest. Raises `CannotSplit`."""
        first: list[Any] = []
        rest: list[Any] = list(atoms)
        while size > 1:
            if not rest:
                raise CannotSplit
            atom, *rest = self.expand(rest)
            n = self.size(atom)
            if n == 1:
                self.drop(atom)
            elif size % n == 0:
                first, size = [*first, atom], size // n
            elif n % size:
                raise CannotSplit
            elif isinstance(atom, int):
                rest = [size, n // size, *rest]
            else:
                rest = [*map(Factor, self.nodes.split(atom.node, size)), *rest]
        return first, rest

    def align(self, *axes: Axis) -> list[list[Factor | None]]:
        """Join axes that run over the same neurons: for each factor, that of each axis.

        An axis that is the same all along has `None`. If factors do not fit, all become fixed.
        """
        given = {i: self.factors(axis) for i, axis in enumerate(axes) if axis.factors is not None}
        columns: list[list[Factor | None]] = []
        try:
            while any(given.values()):
                for i, factors in given.items():
                    given[i] = [f for f in self.expand(factors) if isinstance(f, Factor)]
                    if axes[i].size > 1:
                        given[i] = [f for f in given[i] if self.size(f) > 1 or self.drop(f)]
                n = min(self.size(factors[0]) for factors in given.values() if factors)
                row: dict[int, Factor] = {}
                for i in [i for i, factors in given.items() if factors]:
                    first, rest = self.take(given[i], n) if n > 1 else (given[i], [])
                    row[i], given[i] = first[0], rest
                one, *others = row.values()
                for other in others:
                    self.nodes.join(one.node, other.node)
                columns.append([row.get(i) for i in range(len(axes))])
        except CannotSplit:
            why = "axes that do not fit each other"
            self.fix(axes, why)
            for axis in axes:
                self.break_(axis, why)
            fixed = self.fixed(axes[0].size, why).factors
            assert fixed is not None
            return [[fixed[0]] * len(axes)]
        return columns

    # Scales

    def add(self, a: Factor, b: Factor, times: int = 1) -> Factor:
        """The factor of a product, or with `times` -1 of a quotient."""
        return Factor(a.node, plus(a.log, b.log, times), a.sign ^ b.sign)

    def equal(self, a: Factor | None, b: Factor | None, summed: bool = False) -> None:
        """Two things that are added are rescaled alike."""
        log_a, sign_a = (a.log, a.sign) if a else (NONE, frozenset())
        log_b, sign_b = (b.log, b.sign) if b else (NONE, frozenset())
        self._note(plus(log_a, log_b, -1))
        self.scales.equal(log_a, log_b, summed)
        self.scales.breaks(NONE, sign_a ^ sign_b)

    def opposite(self, a: Factor | None, b: Factor | None) -> None:
        """The factors of two things cancel, as when products are summed."""
        if a and b:
            self.equal(Factor(a.node, plus(NONE, a.log, -1), a.sign), b, summed=True)
        else:
            self.equal(a or b, None, summed=True)

    def break_(self, axis: Axis, why: str = "", log: bool = True, sign: bool = True) -> None:
        """What runs along this axis cannot be rescaled, in size or in sign."""
        for f in axis.factors or ():
            self._note(f.log if log else NONE, why)
            self.scales.breaks(f.log if log else NONE, f.sign if sign else frozenset())

    def _note(self, log: Combination, why: str = "") -> None:
        reason = self.pin(why).why if why else (self.operation.where if self.operation else "")
        for unknown in log:
            self.broken.setdefault(unknown, reason)

    def meet(self, total: Factor, weights: Factor, entrywise: bool = False) -> Factor:
        """The factor of signals that met `weights`; `total` is that of both together."""
        return dataclasses.replace(total, log=self.scales.meet(total.log, weights.log, entrywise))

    def collapse(self, factor: Factor) -> None:
        """Signals are summed over these neurons, all alike: what they say alike may be lost."""
        self.collapsed.add(self.nodes.root(factor.node))

    def read(self, factor: Factor | None, value: Value, weights: Factor | None) -> None:
        """Weights read this factor of a signal."""
        if factor and not value.rectified:
            self.raw |= self.scales.normal(factor.log).keys()
        if weights:
            self.reads |= weights.log.keys()

    def with_scales(self, value: Value, log: Fraction | int | None, sign: bool) -> Value:
        """The value with its factors to another power; `None` for the size: it is lost."""

        def act(f: Factor) -> Factor:
            scaled = {} if log is None else plus(NONE, f.log, log)
            return Factor(f.node, scaled, f.sign if sign else frozenset())

        return Value(value.with_factors(act).axes, value.signal)

    def as_value(self, value: Value, which: int) -> Value:
        """A constant with axes: they are fixed where the constant varies along them."""
        if value.constant is None or value.axes:
            return value
        constant = np.asarray(value.constant)
        axes = []
        for i, n in enumerate(constant.shape):
            varies = n > 1 and not _alike(constant, i)
            why = "a constant that varies along the axis"
            axes.append(self.fixed(n, why, ("constant", which, i)) if varies else Axis(n))
        return dataclasses.replace(value, axes=tuple(axes))


def _alike(constant: np.ndarray, axis: int) -> bool:
    first = np.take(constant, [0], axis)
    return bool(((constant == first) | ((constant != constant) & (first != first))).all())
