"""Networks of PyTorch, the same by labels, and the layouts between them."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wfm.io import Stored
from wfm.weights import Group, PositiveScaling, WeightSpec, mlp

RELU = PositiveScaling(rectifies=True)


def dense_layout(*widths: int) -> dict[str, Stored]:
    """`nn.Sequential` of `nn.Linear` and activations: kernels are (out, in)."""
    layout = {}
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        layout[f"dense{i + 1}.kernel"] = Stored(f"{2 * i}.weight", (b, a), (1, 0))
        layout[f"dense{i + 1}.bias"] = Stored(f"{2 * i}.bias", (b,), (0,))
    return layout


def torch_mlp(*widths: int, seed: int = 0) -> Any:
    import torch

    torch.manual_seed(seed)
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


WIDTHS = (4, 5, 5, 3)
SPEC, LAYOUT = mlp(*WIDTHS), dense_layout(*WIDTHS)


@dataclasses.dataclass(frozen=True)
class _ConvNet:
    def __call__(self, weights, x):
        x = jax.lax.conv_general_dilated(
            x[None],
            weights["conv.kernel"],
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )[0]
        c = jax.nn.relu(x + weights["conv.bias"][None, None])
        d = jax.nn.relu(jnp.einsum("hwc,hwcd->d", c, weights["fc.kernel"]) + weights["fc.bias"])
        return {"c": c, "d": d, "out": d @ weights["head.kernel"] + weights["head.bias"]}


CONV = WeightSpec(
    {
        "in": Group(2, False),
        "c": Group(3, True, RELU),
        "d": Group(5, True, RELU),
        "out": Group(4, False),
    },
    {
        "conv.kernel": (3, 3, "in", "c"),
        "conv.bias": ("c",),
        "fc.kernel": (4, 4, "c", "d"),
        "fc.bias": ("d",),
        "head.kernel": ("d", "out"),
        "head.bias": ("out",),
    },
    _ConvNet(),
)
"""Images of 6 by 6 by 2: a convolution, then a dense layer over its 4 by 4 pixels."""

CONV_LAYOUT = {
    "conv.kernel": Stored("0.weight", (3, 2, 3, 3), (2, 3, 1, 0)),
    "conv.bias": Stored("0.bias", (3,), (0,)),
    "fc.kernel": Stored("3.weight", (5, 3, 4, 4), (2, 3, 1, 0), joined=(5, 48)),
    "fc.bias": Stored("3.bias", (5,), (0,)),
    "head.kernel": Stored("5.weight", (4, 5), (1, 0)),
    "head.bias": Stored("5.bias", (4,), (0,)),
}


def torch_conv(seed: int = 0) -> Any:
    import torch

    torch.manual_seed(seed)
    nn = torch.nn
    return nn.Sequential(
        *(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 4))
    )


def torch_outputs(modules: list[Any], inputs: np.ndarray) -> np.ndarray:
    """What the modules compute, (n, m, outputs); images come with channels last."""
    import torch

    x = torch.from_numpy(np.moveaxis(inputs, -1, 1).copy() if inputs.ndim == 4 else inputs)
    with torch.no_grad():
        return np.stack([module(x).numpy() for module in modules])


def images(n: int = 7) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, 6, 6, 2)).astype("f4")


def vectors(n: int = 7) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, WIDTHS[0])).astype("f4")


def networks(n=3, spec=SPEC, seed=0):
    rng = np.random.default_rng(seed)
    return {a: rng.normal(size=(n, *spec.shape(a))).astype("f4") for a in spec.arrays}


def folder_of(path, n, module=torch_mlp, sizes=WIDTHS):
    """One file for each network."""
    import torch

    path.mkdir()
    modules = [module(*sizes, seed=i) for i in range(n)]
    for i, each in enumerate(modules):
        torch.save(each.state_dict(), path / f"net_{i}.pt")
    return modules


def same(zoo, weights):
    for name, a in weights.items():
        np.testing.assert_array_equal(zoo.weights[name], a)
