"""Networks against PyTorch's own modules: by declared layouts, the same arrays compute alike."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wfm.weights import (
    cnn,
    fold_batch_norm,
    lenet5,
    mlp,
    recalibrate,
    residual_mlp,
    resnet,
    siren,
    small_cnn,
    to_stored,
    torch_layout,
    vit,
)
from wfm.weights.layout import Stored, from_stored

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional


class Layers(nn.Module):
    """The modules of these names, and what they compute together."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.own = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.own(self, x)


def torch_mlp(*widths, bias=True, norm=False, act=functional.relu):
    layers = {}
    for i, (a, b) in enumerate(itertools.pairwise(widths), 1):
        layers[f"dense{i}"] = nn.Linear(a, b, bias=bias)
        if norm and i < len(widths) - 1:
            layers[f"norm{i}"] = nn.LayerNorm(b)

    def forward(self, x):
        for i in range(1, len(widths) - 1):
            x = getattr(self, f"dense{i}")(x)
            x = act(getattr(self, f"norm{i}")(x) if norm else x)
        return getattr(self, f"dense{len(widths) - 1}")(x)

    return Layers(forward, **layers)


def torch_cnn(*channels, d_out, stride, padding):
    layers = {"dense": nn.Linear(channels[-1], d_out)}
    for i, (a, b) in enumerate(itertools.pairwise(channels), 1):
        layers[f"conv{i}"] = nn.Conv2d(a, b, 3, stride, padding)

    def forward(self, x):
        for i in range(1, len(channels)):
            x = functional.relu(getattr(self, f"conv{i}")(x))
        return self.dense(x.mean((2, 3)))

    return Layers(forward, **layers)


def torch_residual(d_in, width, hidden, d_out):
    layers = {"embed": nn.Linear(d_in, width), "up1": nn.Linear(width, hidden)}
    layers |= {"down1": nn.Linear(hidden, width), "out": nn.Linear(width, d_out)}

    def forward(self, x):
        x = self.embed(x)
        return self.out(x + self.down1(functional.relu(self.up1(x))))

    return Layers(forward, **layers)


def torch_lenet5(d_out=10):
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, d_out)),
    )


SEQUENTIAL = {"conv1": "0", "conv2": "3", "dense1": "7", "dense2": "9", "dense3": "11"}


class BasicBlock(nn.Module):
    """As in torchvision."""

    def __init__(self, a, b, stride, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(a, b, 3, stride, 1, bias=not norm)
        self.conv2 = nn.Conv2d(b, b, 3, 1, 1, bias=not norm)
        self.bn1, self.bn2 = (nn.BatchNorm2d(b) if norm else nn.Identity() for _ in range(2))
        self.downsample = nn.Identity()
        if stride > 1:
            last = [nn.BatchNorm2d(b)] if norm else []
            self.downsample = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=not norm), *last)

    def forward(self, x):
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.downsample(x))


def torch_resnet(depth, width, channels_in=3, d_out=10, norm=True):
    n, layers = (depth - 2) // 6, {}
    layers["conv1"] = nn.Conv2d(channels_in, width, 3, 1, 1, bias=not norm)
    layers["bn1"] = nn.BatchNorm2d(width) if norm else nn.Identity()
    for stage, (a, b, stride) in enumerate([(1, 1, 1), (1, 2, 2), (2, 4, 2)], 1):
        first = BasicBlock(a * width, b * width, stride, norm)
        rest = [BasicBlock(b * width, b * width, 1, norm) for _ in range(n - 1)]
        layers[f"layer{stage}"] = nn.Sequential(first, *rest)
    layers["fc"] = nn.Linear(4 * width, d_out)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))

    return Layers(forward, **layers)


class TorchViT(nn.Module):
    """Of PyTorch's encoder layers, with LayerNorm first."""

    def __init__(self, size, patch, width, heads, blocks, hidden, channels, d_out):
        super().__init__()
        self.patch = nn.Conv2d(channels, width, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        layer = lambda: nn.TransformerEncoderLayer(  # noqa: E731
            width, heads, hidden, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.ModuleList([layer() for _ in range(blocks)])
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, d_out)

    def forward(self, x):
        x = self.patch(x).flatten(2).swapaxes(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.out(self.norm(x)[:, 0])


def torch_siren(*widths, w0=30.0):
    return torch_mlp(*widths, act=lambda z: torch.sin(w0 * z))


# The network, the shape of an input, PyTorch's module, and the names of its modules.
PAIRS = {
    "mlp": (mlp(5, 8, 6, 3), (5,), lambda: torch_mlp(5, 8, 6, 3), {}),
    "no bias": (
        mlp(5, 8, 6, 3, bias=False),
        (5,),
        lambda: torch_mlp(5, 8, 6, 3, bias=False),
        {},
    ),
    "layer norm": (
        mlp(5, 8, 6, 3, layer_norm=True),
        (5,),
        lambda: torch_mlp(5, 8, 6, 3, norm=True),
        {},
    ),
    "residual": (residual_mlp(5, 8, 6, 3, 1), (5,), lambda: torch_residual(5, 8, 6, 3), {}),
    "cnn": (
        cnn(2, 4, 5, d_out=3),
        (6, 6, 2),
        lambda: torch_cnn(2, 4, 5, d_out=3, stride=1, padding=1),
        {},
    ),
    "small cnn": (
        small_cnn(),
        (28, 28, 1),
        lambda: torch_cnn(1, 16, 16, 16, d_out=10, stride=2, padding=0),
        {},
    ),
    "lenet5": (lenet5(), (28, 28, 1), torch_lenet5, SEQUENTIAL),
    "resnet8": (resnet(8, 4), (8, 8, 3), lambda: torch_resnet(8, 4), {}),
    "resnet8, odd image": (resnet(8, 2), (7, 7, 3), lambda: torch_resnet(8, 2), {}),
    "resnet20": (resnet(20, 4, 1), (8, 8, 1), lambda: torch_resnet(20, 4, 1), {}),
    "vit": (
        vit(8, 4, 12, 3, 2, hidden=10, channels_in=2, d_out=3),
        (8, 8, 2),
        lambda: TorchViT(8, 4, 12, 3, 2, 10, 2, 3),
        {},
    ),
    "siren": (siren(2, 8, 6, 3), (2,), lambda: torch_siren(2, 8, 6, 3), {}),
}
SLOW = ("resnet20", "resnet8, odd image")
PARAMETERS = [
    pytest.param(*pair, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name, pair in PAIRS.items()
]


def scrambled(module):
    """Every array of a module drawn anew, so that none is 0 or 1 by default."""
    generator = torch.Generator().manual_seed(0)
    for name, array in module.state_dict().items():
        if array.is_floating_point():
            noise = torch.randn(array.shape, generator=generator)
            spread = 0.5 * noise / max(1, array[0].numel()) ** 0.5
            array.copy_(1 + 0.5 * noise.abs() if "running_var" in name else spread)
    return module.eval()


def state(module):
    """The arrays of a module; PyTorch also counts the batches that a BatchNorm has seen."""
    arrays = {name: a.numpy().copy() for name, a in module.state_dict().items()}
    return {n: a for n, a in arrays.items() if not n.endswith("num_batches_tracked")}


def images(x):
    """Inputs as PyTorch has them: channels first."""
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy() if x.ndim > 2 else x)


def draw(shape, n=4):
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


def close(ours, theirs, tolerance=1e-5):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    assert np.abs(theirs).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


outputs = jax.jit(lambda spec, w, x: spec.outputs(w, x), static_argnums=0)


@pytest.mark.parametrize(("spec", "shape", "make", "names"), PARAMETERS)
def test_weights_of_pytorch_compute_the_same(spec, shape, make, names):
    module, x = scrambled(make()), draw(shape)
    w = from_stored(torch_layout(spec, names), state(module))
    spec.check(w)
    close(outputs(spec, jax.tree.map(jnp.asarray, w), x), module(images(x)))


@pytest.mark.parametrize(("spec", "shape", "make", "names"), PARAMETERS)
def test_weights_go_to_pytorch_and_back(spec, shape, make, names):
    rng, layout = np.random.default_rng(0), torch_layout(spec, names)
    w = {name: rng.normal(size=spec.shape(name)).astype(np.float32) for name in spec.arrays}
    stored = to_stored(layout, w)
    module = make()
    module.load_state_dict({n: torch.tensor(a) for n, a in stored.items()}, strict=True)
    back = from_stored(layout, state(module))
    assert all((back[name] == w[name]).all() for name in spec.arrays)
    many = {name: jnp.stack([a, 2 * a]) for name, a in w.items()}
    twice = from_stored(layout, to_stored(layout, many))
    assert all((twice[name] == many[name]).all() for name in spec.arrays)


@pytest.mark.parametrize("depth", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_a_folded_resnet_is_the_one_without_batch_norm(depth):
    """PyTorch's modules without BatchNorm compute with its weights what those with it do."""
    spec, module, x = resnet(depth, 4), scrambled(torch_resnet(depth, 4)), draw((8, 8, 3))
    w = jax.tree.map(jnp.asarray, from_stored(torch_layout(spec), state(module)))
    folded, weights = fold_batch_norm(spec, w)
    assert folded == resnet(depth, 4, batch_norm=False)
    folded.check(weights)
    close(outputs(folded, weights, x), module(images(x)))
    plain = torch_resnet(depth, 4, norm=False)
    stored = to_stored(torch_layout(folded), jax.tree.map(np.asarray, weights))
    plain.load_state_dict({n: torch.tensor(a) for n, a in stored.items()}, strict=True)
    close(plain(images(x)).detach().numpy(), module(images(x)))


def test_recalibrated_statistics_are_those_that_pytorch_sees_in_training():
    """In one batch, with momentum=None; PyTorch keeps n/(n - 1) of the variance."""
    spec, module, x = resnet(8, 4), scrambled(torch_resnet(8, 4)), draw((8, 8, 3), 10)
    w = jax.tree.map(jnp.asarray, from_stored(torch_layout(spec), state(module)))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            layer.reset_running_stats()
    with torch.no_grad():
        module.train()(images(x))
    seen = from_stored(torch_layout(spec), state(module))
    for batch in (10, 4):
        found = jax.jit(lambda w, batch=batch: recalibrate(spec, w, jnp.asarray(x), batch))(w)
        for name in spec.arrays:
            n = 10 * {"stem": 64, "block1": 64, "block2": 16}.get(name.split(".")[0], 4)
            factor = (n - 1) / n if spec.holds_variances(name) else 1
            np.testing.assert_allclose(found[name], factor * seen[name], rtol=1e-4, atol=1e-5)


def test_a_transposed_kernel_does_not_pass():
    spec, x = mlp(4, 4, 4), draw((4,))
    module = scrambled(torch_mlp(4, 4, 4))
    w = from_stored(torch_layout(spec), state(module))
    wrong = w | {"dense1.kernel": w["dense1.kernel"].T}
    theirs = module(images(x)).detach().numpy()[None]
    spec.verify({n: a[None] for n, a in w.items()}, x, theirs)
    with pytest.raises(ValueError, match="transposed"):
        spec.verify({n: a[None] for n, a in wrong.items()}, x, theirs)


def test_layouts_that_do_not_exist_are_refused():
    spec = lenet5()
    with pytest.raises(ValueError, match="no module 'fc1'; it has conv1, conv2, dense1"):
        torch_layout(spec, {"fc1": "a"})
    part = torch_layout(vit())["block1.key.bias"]
    assert part == Stored("layers.0.self_attn.in_proj_bias", (4, 8), (0, 1), (32,), (1, 3))
    with pytest.raises(ValueError, match="no part 3 of 3"):
        Stored("a", (2,), (0,), part=(3, 3))
    with pytest.raises(
        ValueError, match=r"1 of the 3 parts of 'layers\.0.self_attn\.in_proj_bias'"
    ):
        to_stored({"a": part}, {"a": np.zeros((4, 8))})
