"""Which axes run over the same neurons: union-find over axes that can be split."""

import dataclasses


class CannotSplit(ValueError):
    """An axis that cannot be read as several."""


@dataclasses.dataclass(frozen=True)
class Pin:
    """Why the places along an axis have a meaning of their own."""

    why: str
    is_input: bool = False


class Nodes:
    """Axes, joined where they run over the same neurons, each with a size.

    A node may be split into factors, the slowest first, as in the reshape of 64 neurons into 8
    heads of 8. A pinned node's neurons have a fixed order.
    """

    def __init__(self):
        self._sizes: list[int] = []
        self._parents: list[int] = []
        self._factors: dict[int, tuple[int, ...]] = {}
        self._pins: dict[int, Pin] = {}
        self._kept: dict[object, int] = {}
        self.changes = 0

    def new(self, size: int) -> int:
        self._sizes.append(int(size))
        self._parents.append(len(self._parents))
        return len(self._parents) - 1

    def kept(self, key: object, size: int) -> int:
        """The node of this key: the same at each call."""
        if key not in self._kept:
            self._kept[key] = self.new(size)
        return self._kept[key]

    def root(self, node: int) -> int:
        while self._parents[node] != node:
            self._parents[node] = self._parents[self._parents[node]]
            node = self._parents[node]
        return node

    def size(self, node: int) -> int:
        return self._sizes[node]

    def expand(self, node: int) -> tuple[int, ...]:
        """The roots of the factors that a node was split into, or its own."""
        root = self.root(node)
        if root not in self._factors:
            return (root,)
        return tuple(r for factor in self._factors[root] for r in self.expand(factor))

    def pin(self, node: int, pin: Pin) -> None:
        """Fix the order of a node's neurons; the first reason is kept."""
        for root in self.expand(node):
            if root not in self._pins or (pin.is_input and not self._pins[root].is_input):
                self._pins[root] = pin
                self.changes += 1

    def pinned(self, node: int) -> Pin | None:
        """Why the order of an unsplit node is fixed, if it is."""
        return self._pins.get(self.root(node))

    def split(self, node: int, first: int) -> tuple[int, int]:
        """Split an unsplit node into `first` times the rest."""
        root = self.root(node)
        size = self._sizes[root]
        if size % first:
            raise CannotSplit
        parts = self.new(first), self.new(size // first)
        self._factors[root] = parts
        self.changes += 1
        if pin := self._pins.pop(root, None):
            for part in parts:
                self.pin(part, pin)
        return parts

    def join(self, a: int, b: int) -> None:
        """Two unsplit nodes of one size run over the same neurons."""
        a, b = sorted((self.root(a), self.root(b)))
        if a == b:
            return
        self._parents[b] = a
        self.changes += 1
        pins = [p for p in (self._pins.get(a), self._pins.pop(b, None)) if p]
        if pins:
            self._pins[a] = next((p for p in pins if p.is_input), pins[0])
