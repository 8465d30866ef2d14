"""`--network` and `--layout`: what networks are, and how files store them."""

import dataclasses
import importlib
import importlib.util
import inspect
import itertools
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from wfm.command import calls
from wfm.command.calls import Call, Name
from wfm.errors import UserError
from wfm.io.networks import as_named
from wfm.io.small_cnn_zoo import SMALL_CNN_ZOO
from wfm.weights import (
    WeightSpec,
    batch_norms,
    cnn,
    lenet5,
    mlp,
    residual_mlp,
    resnet,
    siren,
    small_cnn,
    torch_layout,
    trace,
    vit,
)
from wfm.weights.layout import Layout
from wfm.weights.tracing.traced import Traced

SIDE = 28  # pixels, where images may have any number


@dataclasses.dataclass(frozen=True)
class Kind:
    """A constructor of networks, and the shape of an input from its arguments by name."""

    make: Callable[..., WeightSpec]
    input_shape: Callable[[Mapping[str, Any]], tuple[int, ...]]
    any_size: bool = False  # of images


def _images(given: Mapping[str, Any]) -> tuple[int, ...]:
    return given.get("size", SIDE), given.get("size", SIDE), given["channels_in"]


KINDS = {
    "mlp": Kind(mlp, lambda given: given["widths"][:1]),
    "residual_mlp": Kind(residual_mlp, lambda given: (given["d_in"],)),
    "siren": Kind(siren, lambda given: given["widths"][:1]),
    "cnn": Kind(cnn, _images, any_size=True),
    "small_cnn": Kind(small_cnn, _images, any_size=True),
    "lenet5": Kind(lenet5, _images),
    "resnet": Kind(resnet, _images, any_size=True),
    "vit": Kind(vit, _images),
}
"""The networks of `wfm.weights`, by name."""


@dataclasses.dataclass(frozen=True)
class Network:
    """What `--network` says. `code`: the call that makes it, or `network` if only the user can."""

    spec: WeightSpec
    code: str
    input_shape: tuple[int, ...]
    any_size: bool
    own: Layout
    call: Call | None = None

    def inputs_of(self, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """The inputs of a task, in the shape that the network takes."""
        size, shape = math.prod(x.shape[1:]), self.input_shape
        if self.any_size:
            side = math.isqrt(size // shape[-1])
            shape = (side, side, shape[-1])
        if math.prod(shape) != size:
            raise UserError(
                f"an input of the task has {size} numbers, and the network takes {shape}; give "
                "the network's own task"
            )
        return x.reshape(len(x), *shape)

    def without_batch_norm(self) -> "Network":
        """The network that `fold_batch_norm` gives."""
        if not batch_norms(self.spec) or self.call is None:
            return self
        return of_call(dataclasses.replace(self.call, options={**self.call.options, **FOLDED}))


FOLDED = {"batch_norm": False}


def network(text: str) -> Network:
    """The network that `--network` names: `mlp:784,10,10`, or `module:function`."""
    name, colon, rest = text.partition(":")
    if name in KINDS:
        return of_call(calls.read(f"{name}({rest})"))
    if colon and name and rest.isidentifier():
        return _of_function(name, rest)
    raise UserError(
        f"there is no network {text!r}; choose one of {', '.join(KINDS)}, with sizes as in "
        "mlp:784,10,10, or give module:function"
    )


def for_task(text: str, input_shape: tuple[int, ...], n_classes: int) -> Network:
    """The network that `text` names, for inputs and classes that it leaves out.

    As in `network`, but without the sizes that a task sets: `mlp:16,16`, `lenet5`, `cnn:8,8` or
    `resnet:depth=8,width=4`. Images of one number for each pixel may be flat. What
    `module:function` returns has its own sizes.
    """
    name, _, rest = text.partition(":")
    if name not in KINDS:
        return network(text)
    call = calls.read(f"{name}({rest})")
    parameters = inspect.signature(KINDS[name].make).parameters
    sizes = _sizes(parameters, input_shape) | {"d_out": n_classes}
    if "widths" in parameters and parameters["widths"].kind is inspect.Parameter.VAR_POSITIONAL:
        return of_call(dataclasses.replace(call, args=(sizes["d_in"], *call.args, n_classes)))
    first = [sizes[key] for key in itertools.takewhile(sizes.__contains__, parameters)]
    rest_of = {key: sizes[key] for key in list(parameters)[len(first) :] if key in sizes}
    options = rest_of | call.options
    return of_call(dataclasses.replace(call, args=(*first, *call.args), options=options))


def _sizes(parameters: Mapping[str, Any], input_shape: tuple[int, ...]) -> dict[str, int]:
    """The sizes of inputs, by the names that constructors have for them."""
    if "channels_in" not in parameters:
        return {"d_in": math.prod(input_shape)}
    side = math.isqrt(math.prod(input_shape))
    shape = input_shape if len(input_shape) == 3 else (side, side, 1)
    if math.prod(shape) != math.prod(input_shape) or shape[0] != shape[1]:
        raise UserError(
            f"the network takes square images, and an input of the task has the shape {input_shape}"
            "; choose a task of images, or mlp"
        )
    return {"size": shape[0], "channels_in": shape[2]}


def of_call(call: Call) -> Network:
    """The network that a call makes, such as that of `mlp(784, 10, 10)`."""
    kind = KINDS.get(call.name)
    if kind is None:
        raise UserError(f"there is no network {call.name!r}; choose one of {', '.join(KINDS)}")
    call = dataclasses.replace(
        call,
        args=tuple(map(_plain, call.args)),
        options={key: _plain(value) for key, value in call.options.items()},
    )
    signature = inspect.signature(kind.make)
    try:
        bound = signature.bind(*call.args, **call.options)
        bound.apply_defaults()
        spec = kind.make(*call.args, **call.options)
    except UserError:
        raise
    except (TypeError, ValueError, IndexError):
        taken = ", ".join(_shown(p) for p in signature.parameters.values())
        raise UserError(
            f"{call.code('wfm.weights')} cannot be made; {call.name} takes {taken}, as in "
            f"{call.name}:1,2 or {call.name}:key=value"
        ) from None
    shape = kind.input_shape(bound.arguments)
    code = call.code("wfm.weights")
    return Network(spec, code, shape, kind.any_size, as_named(spec), call)


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, Name) else value


def _shown(parameter: inspect.Parameter) -> str:
    text = f"*{parameter.name}" if parameter.kind is parameter.VAR_POSITIONAL else parameter.name
    return text if parameter.default is parameter.empty else f"{text}={parameter.default!r}"


def _of_function(place: str, name: str) -> Network:
    """The traced network of a function that returns `(apply, params, example)`."""
    made = f"{place}:{name}"
    try:
        function = getattr(_module(place), name, None)
        found = function() if callable(function) else None
    except UserError:
        raise
    except Exception as error:  # of the user's code
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{made} fails in {at.filename}, line {at.lineno}: {type(error).__name__}: {error}"
        ) from error
    if function is None:
        raise UserError(f"{place} has no function {name!r}; check --network")
    if not (isinstance(found, tuple) and len(found) == 3):
        raise UserError(
            f"{made} must be a function that returns (apply, params, example): apply(params, x) "
            "gives the outputs for one input, and example is such an input"
        )
    apply, params, example = found
    spec = trace(apply, params, example)
    assert isinstance(spec.activations, Traced)
    own = dict(spec.activations.layout)
    return Network(spec, "network", tuple(jnp.shape(example)), False, own)


def _module(place: str) -> Any:
    """A module by its name, looked for in the working directory too, or a file."""
    if not place.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise
            raise UserError(f"there is no module {place!r}; give a file as path/file.py") from None
        finally:
            sys.path.remove(str(Path.cwd()))
    if not Path(place).is_file():
        raise UserError(f"there is no {place}; check --network")
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)  # which dataclasses in it look up
    spec.loader.exec_module(module)
    return module


LAYOUTS: dict[str, Callable[[Network, dict[str, str]], Layout]] = {
    "own": lambda network, names: network.own,
    "torch": lambda network, names: torch_layout(network.spec, names),
    "small_cnn_zoo": lambda network, names: SMALL_CNN_ZOO,
}


def layout(text: str, network: Network) -> Layout:
    """The layout that `--layout` names: `own`, `torch`, or `torch:dense1=0,dense2=2`."""
    name, _, rest = text.partition(":")
    names = dict(pair.split("=", 1) for pair in rest.split(",") if "=" in pair)
    if name not in LAYOUTS or len(names) != len(rest.split(",")) * bool(rest):
        raise UserError(
            f"there is no layout {text!r}; choose one of {', '.join(LAYOUTS)}, or name modules as "
            "in torch:dense1=0,dense2=2"
        )
    return LAYOUTS[name](network, names)
