"""How PyTorch stores the arrays of these networks."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from wfm.errors import UserError
from wfm.weights.layout import Layout, Stored
from wfm.weights.spec import WeightSpec

SUFFIXES = {
    "kernel": "weight",
    "bias": "bias",
    "gain": "weight",
    "shift": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
"""The last part of an array's name, here and in PyTorch."""
ORDERS = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
"""The places of a vector's, a dense and a convolution kernel's axes in PyTorch's arrays."""
FLATTENED = (2, 3, 1, 0)
"""The same for a dense kernel (height, width, channels, to): images are flattened channels first,
and these axes are joined."""


@runtime_checkable
class HasTorchLayout(Protocol):
    """Activations of a network that say how PyTorch stores its arrays."""

    def torch_layout(self, spec: WeightSpec) -> Layout:
        """Where each array of `spec` is in a `state_dict`, and how."""
        ...


def torch_layout(spec: WeightSpec, names: Mapping[str, str] | None = None) -> Layout:
    """Where each array of a network of `wfm.weights` is in PyTorch's `state_dict`, and how.

    Modules are called as layers are here, unless the function that made the network says otherwise.
    `names` renames them: `{"dense1": "classifier.0"}` finds `dense1.kernel` as
    `classifier.0.weight`. Raises `UserError` if no layout is known, or for an unknown module.
    """
    if not isinstance(spec.activations, HasTorchLayout):
        raise UserError(
            "no layout of PyTorch is declared for this network; give one `Stored` for each array"
        )
    return renamed(spec.activations.torch_layout(spec), names or {})


def renamed(layout: Layout, names: Mapping[str, str]) -> Layout:
    """The layout with other names of modules: `names` maps the old ones to the new ones."""
    modules = {place.name.rpartition(".")[0] or place.name for place in layout.values()}
    if unknown := sorted(names.keys() - modules):
        raise UserError(
            f"this layout has no module {unknown[0]!r}; it has {', '.join(sorted(modules))}"
        )

    def rename(name: str) -> str:
        module, dot, last = name.rpartition(".")
        return names[name] if name in names else names.get(module, module) + dot + last

    return {
        array: dataclasses.replace(place, name=rename(place.name))
        for array, place in layout.items()
    }


def by_rank(
    spec: WeightSpec, names: Mapping[str, str] | None = None, flattened: tuple[str, ...] = ()
) -> Layout:
    """The layout of vectors, dense and convolution kernels, which differ in the number of axes.

    `names`: what PyTorch calls a layer, if something else. `flattened`: the dense kernels that
    follow the flattening of an image.
    """

    def place(array: str) -> Stored:
        layer, _, last = array.rpartition(".")
        name = f"{(names or {}).get(layer, layer)}.{SUFFIXES[last]}"
        shape = spec.shape(array)
        if array not in flattened:
            return stored(name, shape, ORDERS[len(shape)])
        height, width, channels, to = shape
        return stored(name, shape, FLATTENED, (to, channels * height * width))

    return {array: place(array) for array in spec.arrays}


def stored(
    name: str,
    shape: tuple[int, ...],
    order: tuple[int, ...],
    joined: tuple[int, ...] = (),
    part: tuple[int, int] = (0, 1),
) -> Stored:
    """Where an array of this shape is stored, from the place of each of its axes there."""
    split = tuple(shape[order.index(i)] for i in range(len(order)))
    return Stored(name, split, order, joined, part)
