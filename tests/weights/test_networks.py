"""What each network promises beyond the laws of all: sizes, refusals, norms, what is left free."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.weights.table import NETWORKS, canonical, inputs
from wfm.fields import WeightGraph
from wfm.weights import (
    Attention,
    Group,
    WeightSpec,
    align,
    balance_heads,
    batch_norms,
    fold_batch_norm,
    lenet5,
    mlp,
    permute,
    random_permutation,
    random_rescaling,
    recalibrate,
    rescale,
    resnet,
    siren,
    siren_init,
    small_cnn,
    to_stored,
    torch_layout,
    vit,
)

RESNET, SHAPE = NETWORKS["resnet"]
VIT, PIXELS = NETWORKS["vit"]
outputs = jax.jit(lambda spec, w, x: spec.outputs(w, x), static_argnums=0)


def random(spec, seed=0):
    rng = np.random.default_rng(seed)
    w = {name: rng.normal(size=spec.shape(name)) / 2 for name in spec.arrays}
    w = {n: 0.5 + np.abs(a) if spec.holds_variances(n) else a for n, a in w.items()}
    return {n: jnp.asarray(a, "float32") for n, a in w.items()}


def close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# Published counts of weights: Unterthiner et al. (2020), LeCun et al. (1998, with a dense third
# layer), He et al. (2016, table 6: 0.27 million).
COUNTS = {
    "small cnn": (small_cnn(), 4970),
    "lenet5": (lenet5(), 61706),
    "resnet20": (resnet(20), 0.27e6),
}


@pytest.mark.parametrize(("spec", "n"), COUNTS.values(), ids=COUNTS)
def test_networks_have_the_published_number_of_weights(spec, n):
    assert spec.n_weights == pytest.approx(n, rel=0 if isinstance(n, int) else 0.03)


REFUSED = {
    "heads": (lambda: vit(width=32, heads=5), "5 heads do not divide the width 32"),
    "patches": (lambda: vit(size=28, patch=5), "patches of 5 pixels do not divide images of 28"),
    "depth": (lambda: resnet(9), "6n + 2, as 8, 14 or 20; got 9"),
    "no blocks": (lambda: resnet(2), "got 2"),
    "small image": (lambda: lenet5(11), "at least 12 pixels on each side, got 11"),
    "frequency": (lambda: siren(2, 3, 1, w0=0.0), "w0 of a siren is positive, got 0.0"),
    "no layers": (lambda: siren(2), "input and output widths"),
    "another's init": (
        lambda: siren_init(mlp(2, 3, 1), jax.random.key(0)),
        "for networks that `siren` made",
    ),
    "no layout": (lambda: torch_layout(canonical(VIT).spec), "no layout of PyTorch is declared"),
    "no inputs": (
        lambda: recalibrate(RESNET, random(RESNET), jnp.zeros((0, *SHAPE))),
        "no inputs to recalibrate on",
    ),
    "no batch": (
        lambda: recalibrate(RESNET, random(RESNET), jnp.zeros((1, *SHAPE)), 0),
        "at least 1, got 0",
    ),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_built_is_refused(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


def test_labels_of_norms_and_heads():
    spec = mlp(5, 8, 3, layer_norm=True)
    assert spec.arrays["norm1.gain"] == (("h1", "n1"),)
    assert spec.permutable == ("h1",)
    assert lenet5().arrays["dense1.kernel"] == (5, 5, "c2", "d1")
    assert VIT.permutable == ("stream", "heads1", "h1")
    assert VIT.factors("block1.key.bias") == [(0, "heads1", -1)]
    assert canonical(VIT).spec.factors("log_scale") == []  # of an array over no group
    writers = {RESNET.order(RESNET.entered(n.gain) or "") for n in batch_norms(RESNET)}
    assert writers == set(RESNET.permutable)
    assert RESNET.order("s2") == RESNET.order("block2.shortcut") == "block2.conv2"


# Labels that are wrong in one place, and the group that shows it.
def changed(spec, powers=None, **arrays):
    arrays = {name.replace("__", "."): axes for name, axes in arrays.items()}
    arrays = {name: arrays.get(name, axes) for name, axes in spec.arrays.items()}
    powers = spec.powers if powers is None else powers
    return WeightSpec(spec.groups, arrays, spec.activations, powers)


LAYER_NORM = NETWORKS["layer norm"][0]
WRONG = {
    "a variance that scales": (changed(RESNET, powers={}), SHAPE, "rescaling .* 'stem'"),
    "keys that scale as queries do": (changed(VIT, powers={}), PIXELS, "rescaling .* 'heads1'"),
    "a gain that leaves nothing": (
        changed(LAYER_NORM, norm1__gain=("h1",), norm1__shift=("h1",)),
        (5,),
        "rescaling .* 'n1'",
    ),
}


@pytest.mark.parametrize(("spec", "shape", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.slow
def test_wrong_labels_of_norms_and_heads_are_named(spec, shape, message):
    w = {name: np.asarray(a)[None] for name, a in random(spec).items()}
    true = {n: 1 + np.abs(a) if "variance" in n else a for n, a in w.items()}
    with pytest.raises(ValueError, match=message):
        spec.verify(true, inputs(shape, 4))


def test_folding_leaves_other_networks_alone():
    w = random(VIT)
    assert fold_batch_norm(VIT, w) == (VIT, w)


@pytest.mark.slow
def test_folding_maps_over_many():
    many = jax.tree.map(lambda *a: jnp.stack(a), random(RESNET, 0), random(RESNET, 1))
    stacked = jax.jit(jax.vmap(lambda w: fold_batch_norm(RESNET, w)[1]))(many)
    folded, one = fold_batch_norm(RESNET, random(RESNET, 1))
    folded.check(stacked, 1)
    assert all(np.allclose(stacked[n][1], one[n], atol=1e-5) for n in one)
    assert not batch_norms(folded)
    with pytest.raises(ValueError, match="many networks where one is expected"):
        fold_batch_norm(RESNET, many)
    half = jax.tree.map(lambda a: a.astype("float16"), random(RESNET, 1))
    assert fold_batch_norm(RESNET, half)[1]["stem.kernel"].dtype == jnp.float32


def test_channels_without_variance_or_kernel_fold_and_stay_finite():
    w, x = random(RESNET), inputs(SHAPE, 4)
    w["stem.norm.variance"] = w["stem.norm.variance"].at[0].set(0)
    w["block1.conv1.kernel"] = w["block1.conv1.kernel"].at[..., 1].set(0)
    folded, new = fold_batch_norm(RESNET, w)
    close(outputs(folded, new, x), outputs(RESNET, w, x), 1e-4)


@pytest.mark.slow
def test_a_dead_convolution_before_a_norm_has_one_form():
    form, w, x = canonical(RESNET), random(RESNET), inputs(SHAPE, 4)
    for name in ("kernel", "norm.mean"):
        name = f"block1.conv1.{name}"
        w[name] = w[name].at[..., 1].set(0)
    form.check(jax.tree.map(lambda a: a[None], w))
    point = jax.jit(form.encode)(w)
    assert point["block1.conv1.norm.variance"][1] == 1
    assert point["block1.conv1.norm.gain"][1] == 1  # of the group after it, which has no scale too
    assert not point["block1.conv2.kernel"][:, :, 1].any()
    of = lambda spec, w: jax.nn.log_softmax(outputs(spec, w, x))  # noqa: E731
    close(of(form.spec, point), of(RESNET, w), 1e-4)
    w["block1.conv1.norm.mean"] = w["block1.conv1.norm.mean"].at[1].set(0.5)
    with pytest.raises(ValueError, match=r"brings nothing to neuron 1 of 'block1\.conv1'"):
        form.check(jax.tree.map(lambda a: a[None], w))


def test_recalibration_makes_what_norms_pass_on_standard_and_ignores_old_statistics():
    w, x = random(RESNET), inputs(SHAPE, 7)
    found = jax.jit(lambda w: recalibrate(RESNET, w, x, 3))(w)
    values = jax.vmap(lambda x: RESNET.activations(found, x))(x)
    for norm in batch_norms(RESNET):
        z = np.asarray(values[norm.layer], np.float64).reshape(-1, len(found[norm.mean]))
        close(found[norm.mean], z.mean(0), 1e-4)
        np.testing.assert_allclose(found[norm.variance], z.var(0), rtol=1e-3, atol=1e-6)
    other = {n: a + 1 if n.endswith(("mean", "variance")) else a for n, a in w.items()}
    again = jax.jit(lambda w: recalibrate(RESNET, w, x, 3))(other)
    assert all(np.allclose(again[n], found[n], rtol=1e-3, atol=1e-4) for n in w)
    plain = random(lenet5(16, 1, 3, (3, 4, 5, 4)))
    same = recalibrate(lenet5(16, 1, 3, (3, 4, 5, 4)), plain, jnp.zeros((2, 16, 16, 1)))
    assert all((same[n] == plain[n]).all() for n in plain)


def gauged(w, rng):
    """All that `left` says of a ViT: matrices in heads, key biases, shifts, turned streams."""
    w = in_heads(w, rng)
    moved = rng.normal(size=w["norm.shift"].shape)
    w["norm.shift"] = w["norm.shift"] + moved
    w["out.bias"] = w["out.bias"] - moved @ w["out.kernel"]
    return _turned(w, rng)


def in_heads(w, rng):
    """Matrices between queries and keys, and values and outputs, and what biases do not tell."""
    w = dict(w)
    q, k, v, o = (f"block1.{part}" for part in ("query", "key", "value", "output"))
    heads, d = w[f"{q}.bias"].shape
    for pair in ((q, k), (v, o)):
        m = rng.normal(size=(heads, d, d))
        inverse = np.linalg.inv(m)
        for part in ("kernel", "bias"):
            a = w[f"{pair[0]}.{part}"]
            w[f"{pair[0]}.{part}"] = np.einsum("...hd,hde->...he", a, m)
        if pair[1] == k:
            for part in ("kernel", "bias"):
                w[f"{k}.{part}"] = np.einsum("...hd,hed->...he", w[f"{k}.{part}"], inverse)
        else:
            w[f"{o}.kernel"] = np.einsum("hde,hen->hdn", inverse, w[f"{o}.kernel"])
    w[f"{k}.bias"] = w[f"{k}.bias"] + rng.normal(size=(heads, d))
    moved = rng.normal(size=(heads, d))
    w[f"{v}.bias"] = w[f"{v}.bias"] + moved
    w[f"{o}.bias"] = w[f"{o}.bias"] - np.einsum("hd,hdn->n", moved, w[f"{o}.kernel"])
    return w


def _turned(w, rng):
    """The stream turned by an orthogonal matrix that keeps the ones, after moving on the gains."""
    readers = {"block1.norm1": ["query", "key", "value"], "block1.norm2": ["up"], "norm": ["out"]}
    n = len(w["norm.gain"])
    basis = np.linalg.qr(np.concatenate([np.ones((n, 1)), rng.normal(size=(n, n - 1))], 1))[0]
    inner = np.linalg.qr(rng.normal(size=(n - 1, n - 1)))[0]
    block = np.block([[np.ones((1, 1)), np.zeros((1, n - 1))], [np.zeros((n - 1, 1)), inner]])
    turn = basis @ block @ basis.T
    for norm, layers in readers.items():
        gain, shift = w[f"{norm}.gain"], w[f"{norm}.shift"]
        for layer in layers:
            name = f"{'block1.' if norm != 'norm' else ''}{layer}"
            after = w[f"{name}.kernel"]
            w[f"{name}.bias"] = w[f"{name}.bias"] + np.tensordot(shift, after, 1)
            scaled = after * gain.reshape(-1, *[1] * (after.ndim - 1))
            w[f"{name}.kernel"] = np.tensordot(turn.T, scaled, 1)
        w[f"{norm}.gain"], w[f"{norm}.shift"] = np.ones(n), np.zeros(n)
    for name in ("patch.kernel", "patch.bias", "class_token", "positions"):
        w[name] = w[name] @ turn
    for name in ("output", "down"):
        for part in ("kernel", "bias"):
            w[f"block1.{name}.{part}"] = w[f"block1.{name}.{part}"] @ turn
    w["positions"] = w["positions"] + 0.7
    return w


CANONICAL = canonical(VIT)
GAUGED = jax.jit(lambda w: CANONICAL.encode(balance_heads(VIT, CANONICAL.decode(w))))


def balanced(w):
    return GAUGED(jax.jit(CANONICAL.encode)(w))


@pytest.mark.slow
def test_balanced_heads_keep_the_function_and_have_no_gauge():
    w, x, rng = random(VIT), inputs(PIXELS, 6), np.random.default_rng(2)
    close(outputs(VIT, balance_heads(VIT, w), x), outputs(VIT, w, x), 1e-4)
    key = jax.random.key(3)
    moved = in_heads({n: np.asarray(a, np.float64) for n, a in w.items()}, rng)
    moved = rescale(VIT, random_rescaling(VIT, key), {n: jnp.float32(a) for n, a in moved.items()})
    moved = permute(VIT, random_permutation(VIT, key), moved)
    close(outputs(VIT, moved, x), outputs(VIT, w, x), 1e-3)
    point, other = balanced(w), balanced(moved)
    assert all((np.abs(moved[n] - w[n]) > 1e-3).any() for n in w if n != "out.bias")
    found = align(CANONICAL.spec, point, other)
    assert all(np.allclose(found[n], point[n], rtol=1e-3, atol=1e-3) for n in point)
    again = GAUGED(point)
    assert all(np.allclose(again[n], point[n], rtol=1e-3, atol=1e-3) for n in point)


@pytest.mark.slow
def test_heads_without_queries_or_with_many_units_are_balanced():
    w, x = random(VIT), inputs(PIXELS, 4)
    w = w | {n: jnp.zeros_like(w[n]) for n in ("block1.query.kernel", "block1.query.bias")}
    found = balance_heads(VIT, w)
    assert all(np.isfinite(a).all() for a in found.values())
    close(outputs(VIT, found, x), outputs(VIT, w, x), 1e-4)
    wide = WeightSpec(
        {"in": Group(2, False), "n": Group(2), "h": Group(3), "out": Group(2, False)},
        {
            "q.kernel": ("n", "h", 5),
            "q.bias": ("h", 5),
            "k.kernel": ("n", "h", 5),
            "k.bias": ("h", 5),
            "v.kernel": ("n", "h", 5),
            "v.bias": ("h", 5),
            "o.kernel": ("h", 5, "out"),
            "o.bias": ("out",),
        },
        Attends(),
    )
    w, x = random(wide), jax.random.normal(jax.random.key(0), (4, 7, 2))
    found = balance_heads(wide, w)
    wide.check(found)
    close(outputs(wide, found, x), outputs(wide, w, x), 1e-4)


@dataclasses.dataclass(frozen=True)
class Attends:
    """Attention alone, with more units in a head than there are neurons."""

    attentions = (Attention("q", "k", "v", "o"),)

    def __call__(self, w, x):
        act = lambda a: jnp.einsum("tn,nhd->thd", x, w[f"{a}.kernel"]) + w[f"{a}.bias"][None]  # noqa: E731
        q, k, v = map(act, "qkv")
        mixed = jnp.einsum("hts,shd->thd", jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k)), v)
        return {"out": jnp.einsum("thd,hdn->tn", mixed, w["o.kernel"]) + w["o.bias"][None]}


@pytest.mark.slow
def test_what_is_left_of_a_vit_keeps_its_function():
    w, x = random(VIT), inputs(PIXELS, 6)
    moved = gauged({n: np.asarray(a, np.float64) for n, a in w.items()}, np.random.default_rng(1))
    moved = {n: jnp.asarray(a, "float32") for n, a in moved.items()}
    assert all(np.abs(moved[n] - w[n]).max() > 0.1 for n in w if n != "out.kernel")
    close(outputs(VIT, moved, x), outputs(VIT, w, x), 1e-4)


def test_what_is_left_of_sines_and_layer_norm_keeps_their_functions():
    spec, w, x = siren(2, 5, 3, w0=3.0), random(siren(2, 5, 3, w0=3.0)), inputs((2,), 6)
    k, b = "dense1.kernel", "dense1.bias"
    turned = w | {b: w[b] + 2 * np.pi / 3 * jnp.arange(5)}
    other = w | {k: w[k].at[:, 0].multiply(-1), b: w[b].at[0].set(np.pi / 3 - w[b][0])}
    for moved in (turned, other):
        close(outputs(spec, moved, x), outputs(spec, w, x), 1e-4)
    w, x = random(LAYER_NORM), inputs((5,), 6)
    moved = w | {b: w[b] + 3.0, k: w[k] + jnp.arange(5.0)[:, None]}
    close(outputs(LAYER_NORM, moved, x), outputs(LAYER_NORM, w, x), 1e-4)


def test_sirens_start_with_the_distributions_of_the_paper():
    """Inputs in [-1, 1]: sines have the variance 1/2 in all layers, and their inputs 1."""
    spec = siren(2, 256, 256, 256, 1)
    w = siren_init(spec, jax.random.key(0))
    spec.check(w)
    assert np.abs(w["dense1.kernel"]).max() == pytest.approx(1 / 2, rel=0.05)
    assert np.abs(w["dense2.kernel"]).max() == pytest.approx((6 / 256) ** 0.5 / 30, rel=0.01)
    assert np.abs(w["dense2.bias"]).max() == pytest.approx(1 / 16, rel=0.05)
    x = jax.random.uniform(jax.random.key(1), (200, 2), minval=-1.0)
    values = jax.vmap(lambda x: spec.activations(w, x))(x)
    for layer in ("h2", "h3"):
        assert float(values[layer].var()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("spec", [s for s, _ in NETWORKS.values()], ids=NETWORKS)
def test_every_network_has_a_graph(spec, fold):
    graph, w = WeightGraph(spec, fold), random(spec)
    back = graph.write(*graph.read(w))
    assert all((back[name] == w[name]).all() for name in spec.arrays)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_heads_of_all_sizes_have_labels_that_fit(heads, d, patches):
    spec = vit(2 * patches, 2, heads * d, heads, 1, 3, 1, 2)
    w = {name: np.zeros(spec.shape(name)) for name in spec.arrays}
    torch = to_stored(torch_layout(spec), w)
    assert torch["layers.0.self_attn.in_proj_weight"].shape == (3 * heads * d, heads * d)
    assert spec.shape("positions") == (patches**2 + 1, heads * d)
