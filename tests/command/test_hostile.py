"""Flows that claim more than they hold are refused before time or memory is spent."""

import time

import jax.numpy as jnp
import pytest
from flax.nnx import Rngs

from wfm.command.described import read_flow
from wfm.errors import UserError
from wfm.fields import MLPField, functional
from wfm.flows import Flow
from wfm.manifolds import Euclidean
from wfm.weights import AsTrained, Canonical, mlp

FORM = "wfm.AsTrained(wfm.mlp(4, 5, 3))"
SECONDS = 3.0  # of the processor
TEXTS = {
    "mlp(1000000, 1000000, 10)": "weights do not fit the network",
    "mlp(9999999999999999999999, 4, 10)": "weights do not fit the network",
    f"mlp({'1,' * 900}1)": "has more than the 5 arrays of this flow",
    "resnet(depth=600002)": "has more than the 5 arrays",
    "resnet(600002, 1)": "has more than the 5 arrays",
    "resnet(depth=600002, breadth=1)": "cannot be made",
    "vit(blocks=1000000000)": "has more than the 5 arrays",
    "vit(28, 7, 32, 4, 1000000000)": "has more than the 5 arrays",
    "vit(blocks=1e9)": "cannot be made",
    "vit(blocks=10**9)": "is not written as a call",
    "vit(heads=0)": "cannot be made",
    "vit(patch=0)": "cannot be made",
    "residual_mlp(4, 5, 5, 3, 1000000000)": "has more than the 5 arrays",
    f"siren(4, 5, 3, w0=1{'0' * 400})": "cannot be made",
    "lenet5(1000000000)": "has more than the 5 arrays",
    "cnn(1, 2, d_out=3, kernel=1000000000)": "weights do not fit the network",
}


def field_of(like):
    bind, params = functional(MLPField(like, width=2, depth=1, rngs=Rngs(0)))
    return bind(params)


def flow_of(form, path, /, like=None, **about):
    """A flow in a file; its field is over three numbers, or over points like the one given."""
    field = field_of(jnp.ones(3) if like is None else like)
    Flow(form.manifold(), field, prior=form.prior()).save(path, about)
    return str(path)


def refusal(path):
    start = time.process_time()
    with pytest.raises(UserError) as told:
        read_flow(path, None)
    assert time.process_time() - start < SECONDS
    return str(told.value)


@pytest.mark.usefixtures("as_in_use")
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:40])
def test_a_name_of_a_network_that_the_flow_is_not_over(text, tmp_path):
    path = flow_of(Canonical(mlp(4, 5, 3)), tmp_path / "flow.zip", form=f"wfm.Canonical({text})")
    assert TEXTS[text] in refusal(path)


@pytest.mark.usefixtures("as_in_use")
@pytest.mark.parametrize("sizes", ["1000000, 1000000, 10", "3000, 4000, 10", "9, 10000000000, 2"])
def test_networks_as_large_as_nothing_in_the_file(sizes, tmp_path):
    form = AsTrained(mlp(*map(int, sizes.split(","))))
    path = flow_of(form, tmp_path / "flow.zip", form=f"wfm.AsTrained(mlp({sizes}))")
    assert "holds none as large" in refusal(path)


def test_large_networks_are_taken_if_one_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr("wfm.command.described.WEIGHTS", 42)
    form, about = AsTrained(mlp(4, 5, 3)), {"form": FORM}
    held = {name: jnp.zeros(form.spec.shape(name)) for name in form.spec.arrays}
    path = flow_of(form, tmp_path / "whole.zip", like=held, reference=held, **about)
    assert read_flow(path, None)[2] == form
    assert "holds none as large" in refusal(flow_of(form, tmp_path / "flow.zip", **about))


@pytest.mark.usefixtures("as_in_use")
@pytest.mark.parametrize(
    ("about", "what"),
    [
        ({}, "does not say of which form its points are"),
        ({"form": 3}, "does not say of which form its points are"),
        ({"form": FORM, "layout": 1}, "the layout of its files is no text"),
        ({"form": FORM}, "its field does not fit its points"),
    ],
)
def test_what_is_stored_with_a_flow_is_looked_at(about, what, tmp_path):
    assert what in refusal(flow_of(AsTrained(mlp(4, 5, 3)), tmp_path / "flow.zip", **about))


@pytest.mark.usefixtures("as_in_use")
def test_a_flow_over_other_points_is_no_flow_over_networks(tmp_path):
    path = tmp_path / "flow.zip"
    Flow(Euclidean((3,)), field_of(jnp.ones(3))).save(path, {"form": FORM})
    assert "its points have no arrays by name" in refusal(str(path))
