"""`wfm learn`, `wfm sample` and `wfm evaluate`, from files to files."""

import re

import jax
import numpy as np
import pytest

from tests.io.torch_nets import folder_of, torch_mlp, torch_outputs, vectors
from tests.io.torch_nets import networks as drawn
from wfm.evaluation import evaluate
from wfm.flows import about
from wfm.io import load_networks, write_arrays
from wfm.tasks import load_task
from wfm.weights import WeightSpec, cnn, mlp, resnet

IRIS = mlp(4, 5, 3)
SMALL = ("--steps", 2, "--width", 4)
NAMES = "torch:dense1=0,dense2=2"


def rows(said):
    """The table of `wfm evaluate`, by the first column."""
    header, _, *lines = said.splitlines()
    names = re.split(r"  +", header)
    cells = (re.split(r"  +", line) for line in lines)
    return {c[0]: dict(zip(names, c, strict=False)) for c in cells}


def learned(wfm, tmp_path, spec: WeightSpec, text: str, n=6, change=lambda weights: weights):
    """A zoo of random networks, the flow over it, and what was said."""
    write_arrays(tmp_path / "zoo.npz", change(drawn(n, spec)), "npz")
    flow = tmp_path / "flow.zip"
    said = wfm("learn", tmp_path / "zoo.npz", "--network", text, "--out", flow, *SMALL)
    return flow, said


def test_a_flow_says_what_its_networks_are(wfm, refused, tmp_path):
    flow, said = learned(wfm, tmp_path, IRIS, "mlp:4,5,3")
    assert re.search(r"a flow over 6 networks of 43 weights, learned in 2 steps", said)
    assert about(flow)["form"] == 'wfm.Canonical(wfm.weights.mlp(4, 5, 3), last="sphere+scale")'
    said = wfm("inspect", flow)
    assert "a flow over weights" in said and "wfm.weights.mlp(4, 5, 3)" in said

    for seed in (0, 1):
        wfm("sample", flow, "-n", 3, "--out", tmp_path / f"{seed}.npz", "--seed", seed)
    wfm("sample", flow, "-n", 3, "--out", tmp_path / "again", "--format", "npz")
    first, other, again = (
        load_networks(tmp_path / name, IRIS) for name in ("0.npz", "1.npz", "again")
    )
    for name in IRIS.arrays:
        np.testing.assert_array_equal(first.weights[name], again.weights[name])
    assert not np.array_equal(first.weights["dense1.kernel"], other.weights["dense1.kernel"])

    wrong = refused("sample", flow, "--network", "mlp:4,6,3", "--out", tmp_path / "x")
    assert "is no flow over" in wrong and not (tmp_path / "x").exists()
    assert "has the arrays" in wrong or "has shape" in wrong


@pytest.mark.slow
def test_samples_are_judged_beside_their_zoo(wfm, refused, tmp_path):
    flow, _ = learned(wfm, tmp_path, IRIS, "mlp:4,5,3")
    said = rows(wfm("evaluate", flow, "--task", "iris", "-n", 5, "--against", tmp_path / "zoo.npz"))
    zoo = load_networks(tmp_path / "zoo.npz", IRIS)
    figures = evaluate(IRIS, zoo.weights, load_task("iris").test)
    ours, theirs = said["samples of flow.zip"], said["zoo.npz"]
    assert theirs["loss"].startswith(f"{float(figures['loss'].mean()):.3f} ±")
    assert theirs["number"] == "6" and ours["number"] == "5"
    assert float(ours["novelty"]) > 0.1
    rival = said["Gaussian fitted to zoo.npz"]
    assert rival["number"] == "100" and float(rival["novelty"]) > 0.1
    assert np.isfinite([float(ours[name]) for name in ("barrier", "aligned", "average")]).all()
    wrong = refused("evaluate", flow, "--task", "breast_cancer")
    assert "an input of the task has 30 numbers" in wrong


def test_copies_of_the_zoo_are_not_new(wfm, tmp_path):
    write_arrays(tmp_path / "zoo.npz", drawn(6, IRIS), "npz")
    said = wfm(
        *("evaluate", tmp_path / "zoo.npz", "--network", "mlp:4,5,3", "--task", "iris"),
        *("--against", tmp_path / "zoo.npz"),
    )
    assert float(rows(said)["zoo.npz"].get("novelty", "nan")) == pytest.approx(0, abs=1e-2)


def test_nothing_remains_of_a_refused_run(refused, tmp_path):
    bad = drawn(4, IRIS)
    bad["dense1.bias"][2, 1] = np.nan
    write_arrays(tmp_path / "zoo.npz", bad, "npz")
    flow = tmp_path / "flow.zip"
    argv = ("learn", tmp_path / "zoo.npz", "--network", "mlp:4,5,3", "--out", flow)
    assert "NaN or infinite weights" in refused(*argv)
    assert [path.name for path in tmp_path.iterdir()] == ["zoo.npz"]


def dead(weights):
    """Networks with a neuron that nothing enters and that still passes on a constant."""
    weights["dense1.kernel"][1, :, 2], weights["dense1.bias"][1, 2] = 0, 1
    return weights


@pytest.mark.slow
def test_networks_without_a_canonical_form_are_learned_as_trained(wfm, tmp_path):
    write_arrays(tmp_path / "zoo.npz", dead(drawn(6, IRIS)), "npz")
    flow = tmp_path / "flow.zip"
    argv = ("learn", tmp_path / "zoo.npz", "--network", "mlp:4,5,3,activation=relu", *SMALL)
    wfm(*argv, "--out", flow)
    assert about(flow)["form"].startswith("wfm.AsTrained(")
    wfm("sample", flow, "-n", 2, "--out", tmp_path / "new.npz")


@pytest.mark.slow
def test_batch_norm_is_folded(wfm, tmp_path):
    spec = resnet(8, 2, 1, 3)

    def positive(weights):
        return {n: abs(a) if spec.holds_variances(n) else a for n, a in weights.items()}

    text = "resnet:depth=8,width=2,channels_in=1,d_out=3"
    flow, _ = learned(wfm, tmp_path, spec, text, change=positive)
    wfm("sample", flow, "-n", 2, "--out", tmp_path / "new.npz", "--layout", "own")
    assert len(load_networks(tmp_path / "new.npz", resnet(8, 2, 1, 3, batch_norm=False))) == 2


OWN = """
import jax
from flax import linen as nn

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(5)(x))
        return nn.Dense(3)(x)

def network():
    x = jax.numpy.ones(4)
    return Net().apply, Net().init(jax.random.key(0), x), x
"""


@pytest.mark.slow
def test_a_flow_over_a_network_of_ones_own(wfm, refused, tmp_path):
    place = tmp_path / "mine.py"
    place.write_text(OWN)
    stored = {
        f"params.Dense_{i}.{part}": drawn(6, IRIS)[f"dense{i + 1}.{part}"]
        for i in range(2)
        for part in ("kernel", "bias")
    }
    write_arrays(tmp_path / "zoo.msgpack", stored, "msgpack")
    named, flow = ("--network", f"{place}:network"), tmp_path / "flow.zip"
    wfm("learn", tmp_path / "zoo.msgpack", *named, "--out", flow, *SMALL)
    out = ("--out", tmp_path / "new", "--format", "msgpack")
    assert "give it by --network" in refused("sample", flow, *out)
    assert "2 networks, a file each" in wfm("sample", flow, "-n", 2, *out, *named)
    assert "accuracy" in wfm("evaluate", flow, "--task", "iris", "-n", 2, *named)


@pytest.mark.slow
def test_images_of_a_task_reach_a_convolution(wfm, tmp_path):
    write_arrays(tmp_path / "zoo.npz", drawn(3, cnn(1, 3, d_out=10)), "npz")
    said = wfm(
        "evaluate", tmp_path / "zoo.npz", "--network", "cnn:1,3,d_out=10", "--task", "digits"
    )
    assert rows(said)["zoo.npz"]["number"] == "3"


@pytest.mark.slow
def test_from_files_of_pytorch_to_files_of_pytorch(wfm, tmp_path):
    torch = pytest.importorskip("torch")
    modules = folder_of(tmp_path / "nets", 8, torch_mlp, (4, 5, 3))
    nets, flow, new = tmp_path / "nets", tmp_path / "flow.zip", tmp_path / "new"
    network = ("--network", "mlp:4,5,3", "--layout", NAMES)
    assert "8 usable in 8 trajectories, 0 bad" in wfm("inspect", nets, *network)
    wfm("learn", nets, *network, "--out", flow, "--steps", 2)
    said = wfm("sample", flow, "-n", 5, "--out", new, "--format", "torch")
    assert f"(torch, layout {NAMES})" in said
    inputs, outputs = vectors(), []
    for file in sorted(new.glob("*.pt")):
        modules[0].load_state_dict(torch.load(file, weights_only=True), strict=True)
        outputs.append(torch_outputs(modules[:1], inputs)[0])
    wfm("convert", new, tmp_path / "own", *network, "--to-layout", "own", "--format", "npz")
    load_networks(tmp_path / "own", IRIS, None, inputs, np.stack(outputs))
    argv = ("evaluate", flow, "--task", "iris", "-n", 5, "--against", nets)
    judged = rows(wfm(*argv))
    assert judged.keys() == {"nets", "samples of flow.zip", "Gaussian fitted to nets"}
    assert jax.tree.leaves(about(flow)["reference"])
