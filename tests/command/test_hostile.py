"""Flows that claim more than they hold are refused before time or memory is spent."""

import time

import jax.numpy as jnp
import pytest
from flax.nnx import Rngs

from wfm.command.described import read_flow
from wfm.errors import UserError
from wfm.fields import MLPField, functional
from wfm.flows import Flow
from wfm.weights import AsTrained, Canonical, mlp

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


def flow_of(form, path, /, **about):
    bind, params = functional(MLPField(jnp.ones(3), width=2, depth=1, rngs=Rngs(0)))
    Flow(form.manifold(), bind(params), prior=form.prior()).save(path, about)
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
    form, about = AsTrained(mlp(4, 5, 3)), {"form": "wfm.AsTrained(wfm.mlp(4, 5, 3))"}
    held = {name: jnp.zeros(form.spec.shape(name)) for name in form.spec.arrays}
    path = flow_of(form, tmp_path / "whole.zip", reference=held, **about)
    assert read_flow(path, None)[2] == form
    assert "holds none as large" in refusal(flow_of(form, tmp_path / "flow.zip", **about))


@pytest.mark.usefixtures("as_in_use")
def test_what_is_stored_with_a_flow_is_looked_at(tmp_path):
    form = AsTrained(mlp(4, 5, 3))
    for number, about in enumerate(
        ({}, {"form": 3}, {"form": "wfm.AsTrained(mlp(4, 5, 3))", "layout": jnp.ones(2)})
    ):
        assert "flow" in refusal(flow_of(form, tmp_path / f"flow{number}.zip", **about))
    bind, params = functional(MLPField(jnp.ones(3), width=2, depth=1, rngs=Rngs(0)))
    Flow(form.manifold().factors["dense1.bias"], bind(params)).save(tmp_path / "one.zip", about)
    path = str(tmp_path / "one.zip")
    assert refusal(path).endswith("layout of its files is no text")
    Flow(form.manifold().factors["dense1.bias"], bind(params)).save(path, {"form": about["form"]})
    assert "its points have no arrays by name" in refusal(path)
