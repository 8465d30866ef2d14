"""How values are rescaled with their neurons: sums of unknown logarithms, and signs."""

from collections.abc import Mapping
from fractions import Fraction

Combination = Mapping[int, Fraction]
"""A sum of unknowns, each the logarithm of a factor of each neuron, times numbers."""

NONE: Combination = {}


def plus(a: Combination, b: Combination, times: Fraction | int = 1) -> Combination:
    """a + times · b."""
    total = dict(a)
    for unknown, number in b.items():
        total[unknown] = total.get(unknown, Fraction(0)) + number * times
    return {unknown: number for unknown, number in total.items() if number}


class Sites:
    """The first of two runs over a program: unknowns are expressed by each other.

    Each axis of a weight array has one unknown. Where weights meet signals, a *site* comes into
    being: what a neuron of some layer says, whose factor is free as far as sums and products tell.
    All other unknowns become combinations of sites. Nothing is set to 0 here, so that it is seen
    which arrays enter and leave which sites even where no rescaling is possible. The one exception
    are products that are summed at once, as in `(x[:, None] * w).sum(0)`: these are no sites.
    """

    def __init__(self):
        self._solved: dict[int, Combination] = {}
        self._number = 0
        self.sites: dict[int, int] = {}  # in the order in which they come into being
        self._born = 0
        self._fresh: set[int] = set()  # sites of products that nothing was compared with so far

    def unknown(self) -> Combination:
        self._number += 1
        return {self._number: Fraction(1)}

    def normal(self, a: Combination) -> Combination:
        """The same combination of what is not solved for."""
        while any(unknown in self._solved for unknown in a):
            total: Combination = {}
            for unknown, number in a.items():
                one = {unknown: Fraction(1)}
                total = plus(total, self._solved.get(unknown, one), number)
            a = total
        return a

    def equal(self, a: Combination, b: Combination, summed: bool = False) -> None:
        """Both are the same: solve for an unknown that is no site, else for the youngest site.

        `summed`: they are, because what they are factors of is summed over.
        """
        rest = self.normal(plus(a, b, -1))
        units = [u for u, number in rest.items() if abs(number) == 1]
        if summed and len(rest) == 1 and self._fresh & rest.keys():
            self._solve(next(iter(rest)), rest)
        self._fresh -= {*self.normal(a), *self.normal(b)}
        if len(rest) < 2 or not units:
            return
        self._solve(max(units, key=lambda u: (self.sites.get(u, self._born), u)), rest)

    def _solve(self, unknown: int, zero: Combination) -> None:
        self._fresh.discard(unknown)
        one = {unknown: zero[unknown]}
        self._solved[unknown] = plus({}, plus(zero, one, -1), -1 / zero[unknown])
        self.sites.pop(unknown, None)

    def meet(self, total: Combination, weights: Combination, entrywise: bool) -> Combination:
        """The factor of signals after they met `weights`; `total` is that of both together.

        `entrywise`: whether signals have the axis too, so that it may yet be summed over.
        """
        total, weights = self.normal(total), self.normal(weights)
        if not weights:
            return total
        if len(total) == 1 and set(total.values()) == {1}:
            (site,) = total
            if site not in self.sites:
                self._arises(site, entrywise)
            return total
        young = self._fresh | (weights.keys() - self.sites.keys())
        units = [u for u, n in weights.items() if abs(n) == 1 and u in young]
        if not units:
            return total
        made = self.unknown()
        self._arises(next(iter(made)), entrywise)
        self._solve(units[-1], plus(total, made, -1))
        return made

    def is_gain(self, log: Combination) -> bool:
        """Whether this is a product of weights that nothing was compared with so far."""
        log = self.normal(log)
        return len(log) == 1 and log.keys() <= self._fresh

    def _arises(self, site: int, fresh: bool) -> None:
        self.sites[site] = self._born
        self._born += 1
        if fresh:
            self._fresh.add(site)

    def breaks(self, log: Combination, sign: frozenset[int]) -> None:
        """Several factors can only cancel; one alone is left as it is in this run."""
        self.equal(log, NONE)


class Free:
    """The second run: which sites' factors, by now the only unknowns, are free.

    `bound` and `one_sign` have those that must be ±1, and those that must be positive.
    """

    def __init__(self):
        self.bound: set[int] = set()
        self.one_sign: set[int] = set()

    def normal(self, a: Combination) -> Combination:
        return a

    def equal(self, a: Combination, b: Combination, summed: bool = False) -> None:
        self.bound |= plus(a, b, -1).keys()

    def meet(self, total: Combination, weights: Combination, entrywise: bool) -> Combination:
        return total

    def is_gain(self, log: Combination) -> bool:
        return False

    def breaks(self, log: Combination, sign: frozenset[int]) -> None:
        """These factors must be 1, and these signs positive."""
        self.bound |= log.keys()
        self.one_sign |= sign
