"""What a flow's points are, as it is stored with the flow."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wfm.command import calls
from wfm.command.calls import Call, Name
from wfm.command.networks import KINDS, Network, network, of_call
from wfm.errors import UserError
from wfm.flows import Flow, about, load_flow
from wfm.weights import AsTrained, Canonical, WeightForm

FORMS = {"Canonical": Canonical, "AsTrained": AsTrained}
OWN = "network"  # stands for a network that only its user can make
DEPTHS = {"blocks", "depth"}  # arguments by which constructors loop; networks have more arrays
ARRAYS = 1000  # of a network, where nothing says how many a flow has
WEIGHTS = 10**7  # of a network, where nothing in the file is as large


def described(form: WeightForm, known: Network) -> str:
    """The call that makes a form, which `form_of` reads."""
    last = f', last="{form.last}"' if isinstance(form, Canonical) else ""
    return f"wfm.{type(form).__name__}({known.code}{last})"


def form_of(text: str, given: Network | None, arrays: int = ARRAYS) -> tuple[Network, WeightForm]:
    """The network of a flow, and the form of its points, from the call that makes it.

    No code is run: networks and forms are known by name. A network of the user's own must be
    `given`, since a file is not trusted to say which function to call, nor how long a constructor
    works: no network is made that has more than so many `arrays`.
    """
    call = calls.read(text)
    if call.name not in FORMS or len(call.args) != 1:
        raise UserError(f"the points of this flow are {text!r}, which is no known form of weights")
    inner = call.args[0]
    if given is not None:
        known = given
    elif isinstance(inner, Call):
        known = _made(inner, arrays)
    else:
        raise UserError(
            "the networks of this flow are those of a function that it was learned with; give it "
            "by --network module:function"
        )
    options = {key: v.text if isinstance(v, Name) else v for key, v in call.options.items()}
    try:
        return known, FORMS[call.name](known.spec, **options)
    except TypeError:
        raise UserError(f"the points of this flow are {text!r}, which cannot be made") from None


def _made(call: Call, arrays: int) -> Network:
    """The network of a call that a file names."""
    claimed = [v for k, v in _arguments(call).items() if k in DEPTHS and isinstance(v, int)]
    try:
        known = of_call(call) if max(claimed, default=0) <= arrays else None
    except ArithmeticError:  # sizes of 0, or beyond all floating-point numbers
        raise UserError(f"{call.code('wfm.weights')[:200]!r} cannot be made") from None
    if known is None or len(known.spec.arrays) > arrays:
        raise UserError(
            f"{call.code('wfm.weights')[:200]!r} has more than the {arrays} arrays of this flow"
        )
    return known


def _arguments(call: Call) -> Mapping[str, Any]:
    """The arguments of the constructor that a call names, as far as it takes them."""
    if call.name not in KINDS:
        return {}
    try:
        return inspect.signature(KINDS[call.name].make).bind(*call.args, **call.options).arguments
    except TypeError:
        return {}


def read_flow(
    source: str, given: str | None
) -> tuple[Flow, Network, WeightForm, Mapping[str, Any]]:
    """A flow, its network and form, and all that was stored with it."""
    flow, said = load_flow(source), about(source)
    text = said.get("form") if isinstance(said, Mapping) else None
    if not isinstance(text, str):
        raise UserError(
            f"{source} does not say of which form its points are; save it with "
            "about={'form': 'wfm.Canonical(wfm.mlp(4, 8, 3))'}, or whatever its form is"
        )
    if not isinstance(said.get("layout", ""), str):
        raise UserError(f"{source} is damaged: the layout of its files is no text")
    points = _points(source, flow)
    known, form = form_of(text, network(given) if given else None, len(points))
    try:
        form.spec.check(points)
    except UserError as error:
        raise UserError(f"{source} is no flow over {text}: {error}") from None
    held = sum(np.size(a) for a in jax.tree.leaves(said.get("reference")))
    if form.spec.n_weights > max(held, WEIGHTS):
        raise UserError(
            f"{source} claims networks of {form.spec.n_weights:,} weights and holds none as large; "
            "save it with about={'reference': …}, the network that its data were aligned to"
        )
    _check_field(source, flow, points)
    return flow, known, form, said


def _points(source: str, flow: Flow) -> Mapping[str, jax.ShapeDtypeStruct]:
    """The arrays of a point of a flow, of which none is made."""
    try:
        points = jax.eval_shape(flow.prior.sample, jax.random.key(0))
    except Exception as error:  # of parts that do not fit, as only an altered file has
        reason = str(error).partition("\n")[0]
        raise UserError(f"{source} cannot be drawn from: {reason[:200]}") from error
    if not isinstance(points, dict):
        raise UserError(f"{source} is no flow over weights: its points have no arrays by name")
    return points


def _check_field(source: str, flow: Flow, points: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Refuse a field over other points, as only an altered file has."""
    shapes, cause = {name: a.shape for name, a in points.items()}, None
    try:
        velocity = jax.eval_shape(lambda x: flow.velocity(jnp.zeros(()), x), points)
        found = jax.tree.map(lambda a: a.shape, velocity)
    except Exception as error:
        found, cause = None, error
    if found != shapes:
        raise UserError(
            f"{source} cannot be drawn from: its field does not fit its points"
        ) from cause
