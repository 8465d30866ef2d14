"""The form in which networks are modelled and compared, and their common order."""

from collections.abc import Callable
from typing import Any, NamedTuple

from wfm.command.progress import say
from wfm.errors import UserError
from wfm.weights import (
    AsTrained,
    Canonical,
    Permutation,
    WeightForm,
    Weights,
    WeightSpec,
    align_all,
    barycentre,
)

FORMS: tuple[Callable[[WeightSpec], WeightForm], ...] = (
    Canonical,
    lambda spec: Canonical(spec, last="euclidean"),
    AsTrained,
)
"""From the one without symmetries to the one that is always there."""


def form_for(spec: WeightSpec, weights: Weights) -> WeightForm:
    """The first form that stacked networks have; says why others are not taken."""
    for make in FORMS[:-1]:
        try:
            form = make(spec)
            form.manifold()
            form.check(weights)
            return form
        except UserError as error:
            say(f"{make_name(make)} is not taken: {error}")
    form = FORMS[-1](spec)
    say("weights are modelled as trained, with rescalings left in")
    form.check(weights)
    return form


def make_name(make: Any) -> str:
    """How a form is called in sentences."""
    return "the canonical form" if make is Canonical else "the one that keeps the last layer"


class Aligned(NamedTuple):
    """Points in one order of neurons, that of `reference`, and the permutations to it."""

    reference: Weights
    before: Weights
    points: Weights
    permutations: Permutation


def aligned(form: WeightForm, weights: Weights) -> Aligned:
    """Points of stacked networks, aligned to their barycentre by their weights."""
    before = form.encode_all(weights)
    reference = barycentre(form.spec, before)
    points, permutations = align_all(form.spec, reference, before)
    return Aligned(reference, before, points, permutations)
