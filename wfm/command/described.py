"""What a flow's points are, as it is stored with the flow."""

from collections.abc import Mapping
from typing import Any

import jax

from wfm.command import calls
from wfm.command.calls import Call, Name
from wfm.command.networks import Network, network, of_call
from wfm.errors import UserError
from wfm.flows import Flow, about, load_flow
from wfm.weights import AsTrained, Canonical, WeightForm

FORMS = {"Canonical": Canonical, "AsTrained": AsTrained}
OWN = "network"  # stands for a network that only its user can make


def described(form: WeightForm, known: Network) -> str:
    """The call that makes a form, which `form_of` reads."""
    last = f', last="{form.last}"' if isinstance(form, Canonical) else ""
    return f"wfm.{type(form).__name__}({known.code}{last})"


def form_of(text: str, given: Network | None) -> tuple[Network, WeightForm]:
    """The network of a flow, and the form of its points, from the call that makes it.

    No code is run: networks and forms are known by name. A network of the user's own must be
    `given`, since a file is not trusted to say which function to call.
    """
    call = calls.read(text)
    if call.name not in FORMS or len(call.args) != 1:
        raise UserError(f"the points of this flow are {text!r}, which is no known form of weights")
    inner = call.args[0]
    if given is not None:
        known = given
    elif isinstance(inner, Call):
        known = of_call(inner)
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


def read_flow(
    source: str, given: str | None
) -> tuple[Flow, Network, WeightForm, Mapping[str, Any]]:
    """A flow, its network and form, and all that was stored with it."""
    flow, said = load_flow(source), about(source)
    text = said.get("form")
    if not isinstance(text, str):
        raise UserError(
            f"{source} does not say of which form its points are; save it with "
            "about={'form': 'wfm.Canonical(wfm.mlp(4, 8, 3))'}, or whatever its form is"
        )
    known, form = form_of(text, network(given) if given else None)
    like = jax.eval_shape(flow.prior.sample, jax.random.key(0))
    try:
        form.spec.check(like)
    except UserError as error:
        raise UserError(f"{source} is no flow over {text}: {error}") from None
    return flow, known, form, said
