"""`--network` and `--layout`."""

import jax
import jax.numpy as jnp
import pytest

from wfm import weights
from wfm.command import calls
from wfm.command.described import described, form_of
from wfm.command.forms import FORMS
from wfm.command.networks import KINDS, for_task, layout, network
from wfm.errors import UserError

TEXTS = {
    "mlp:4,5,3": (weights.mlp(4, 5, 3), (4,)),
    "mlp:4,5,3,activation=tanh,bias=False": (
        weights.mlp(4, 5, 3, activation="tanh", bias=False),
        (4,),
    ),
    "residual_mlp:4,8,5,3,blocks=1": (weights.residual_mlp(4, 8, 5, 3, blocks=1), (4,)),
    "siren:2,8,1,w0=10.0": (weights.siren(2, 8, 1, w0=10.0), (2,)),
    "cnn:1,4,4,d_out=3": (weights.cnn(1, 4, 4, d_out=3), (28, 28, 1)),
    "small_cnn": (weights.small_cnn(), (28, 28, 1)),
    "lenet5:size=16,widths=(2, 3, 5, 4)": (
        weights.lenet5(16, widths=(2, 3, 5, 4)),
        (16, 16, 1),
    ),
    "resnet:depth=8,width=2,channels_in=1": (weights.resnet(8, 2, 1), (28, 28, 1)),
    "vit:size=8,patch=4,width=8,heads=2,blocks=1": (weights.vit(8, 4, 8, 2, 1), (8, 8, 1)),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_name_with_sizes_is_the_network_of_that_constructor(text):
    spec, shape = TEXTS[text]
    found = network(text)
    assert found.spec == spec
    assert found.input_shape == shape
    # And the description of a flow over it leads back to it.
    for make in FORMS:
        form = make(spec)
        again, same = form_of(described(form, found), None)
        assert again.spec == spec and same == form


FOR_TASKS = {
    ("mlp:16,16", (30,)): weights.mlp(30, 16, 16, 2),
    ("mlp", (30,)): weights.mlp(30, 2),
    ("mlp:8,activation=tanh", (30,)): weights.mlp(30, 8, 2, activation="tanh"),
    ("mlp:8", (4, 4, 2)): weights.mlp(32, 8, 2),
    ("siren:8", (3,)): weights.siren(3, 8, 2),
    ("residual_mlp:8,5,blocks=1", (30,)): weights.residual_mlp(30, 8, 5, 2, blocks=1),
    ("cnn:4,5,kernel=1", (64,)): weights.cnn(1, 4, 5, d_out=2, kernel=1),
    ("small_cnn:8", (16, 16, 3)): weights.small_cnn(3, 2, 8),
    ("lenet5:(2,3,5,4)", (256,)): weights.lenet5(16, 1, 2, (2, 3, 5, 4)),
    ("resnet:8,2", (8, 8, 3)): weights.resnet(8, 2, 3, 2),
    ("resnet:width=2,batch_norm=False", (64,)): weights.resnet(8, 2, 1, 2, False),
    ("vit:2,8,blocks=1", (64,)): weights.vit(8, 2, 8, blocks=1, d_out=2),
}


@pytest.mark.parametrize(("text", "shape"), FOR_TASKS)
def test_a_task_gives_the_sizes_that_are_left_out(text, shape):
    found = for_task(text, shape, 2)
    assert found.spec == FOR_TASKS[text, shape]
    inputs = found.inputs_of(jnp.zeros((2, *shape)))
    assert found.spec.outputs(found.spec.init(jax.random.key(0)), inputs).shape == (2, 2)


def test_every_constructor_may_be_named_for_a_task():
    assert {text.partition(":")[0] for text, _ in FOR_TASKS} == KINDS.keys()


@pytest.mark.parametrize("shape", [(30,), (4, 5, 1)])
def test_what_is_no_square_image_is_refused(shape):
    with pytest.raises(UserError, match=r"takes square images, and an input of the task has"):
        for_task("small_cnn", shape, 2)


def test_every_constructor_is_in_the_table():
    assert {text.partition(":")[0] for text in TEXTS} == KINDS.keys()
    made = {"mlp", "residual_mlp", "siren", "cnn", "small_cnn", "lenet5", "resnet", "vit"}
    assert made == KINDS.keys()


@pytest.mark.usefixtures("as_in_use")
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("mpl:4,3", "there is no network 'mpl:4,3'; choose one of mlp"),
        ("mlp", "an mlp needs at least input and output widths"),
        ("mlp:4", "an mlp needs at least input and output widths"),
        ("mlp:4,0,3", "must be at least 1"),
        ("mlp:4,2.5,3", "must be a whole number"),
        ("mlp:4,3,activation=sigmoidal", "sigmoidal"),
        ("mlp:4,3,depth=2", r"mlp takes \*widths, activation='relu'"),
        ("mlp:4,3)", "is not written as a call"),
        ("mlp:4,__import__('os').getcwd()", "."),
        ("mlp:4,[x for x in y]", "is not written as a call"),
        ("resnet:depth=9", "the depth of a resnet is 6n"),
        ("vit:heads=3", "3 heads do not divide the width 32"),
        ("lenet5:size=big", "cannot be made"),
        ("no_such_module:make", "there is no module 'no_such_module'"),
        ("json:make", "json has no function 'make'"),
        ("missing.py:make", r"there is no missing\.py"),
    ],
)
def test_other_texts_are_refused(text, what):
    with pytest.raises(UserError, match=what):
        network(text)


OWN = """
import jax, jax.numpy as jnp

def apply(params, x):
    return jax.nn.relu(x @ params["first"]["kernel"]) @ params["last"]["kernel"]

def network():
    params = {"first": {"kernel": jnp.ones((4, 5))}, "last": {"kernel": jnp.ones((5, 3))}}
    return apply, params, jnp.ones(4)

def wrong():
    return apply, {}

def fails():
    return 1 / 0
"""


def test_a_function_gives_a_traced_network_stored_as_its_parameters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_for_wfm.py").write_text(OWN)
    for place in ("mine_for_wfm.py", str(tmp_path / "mine_for_wfm.py"), "mine_for_wfm"):
        found = network(f"{place}:network")
        assert {place.name for place in found.own.values()} == {"first.kernel", "last.kernel"}
        assert found.spec.permutable and found.input_shape == (4,)
    with pytest.raises(UserError, match="must be a function that returns"):
        network("mine_for_wfm.py:wrong")
    with pytest.raises(UserError, match="line 15: ZeroDivisionError: division by zero"):
        network("mine_for_wfm.py:fails")
    with pytest.raises(UserError, match="give it by --network"):
        form_of('wfm.Canonical(network, last="euclidean")', None)


@pytest.mark.parametrize(
    "text",
    [
        "os.system('true')",
        "wfm.Canonical(os.system('true'))",
        "wfm.Canonical(wfm.mlp(4, 3), last=open('x'))",
        "wfm.Canonical()",
        "(lambda: 1)()",
        "1",
        "",
        "(" * 3000,
        "f(" * 500 + ")" * 500,
    ],
)
@pytest.mark.usefixtures("as_in_use")
def test_a_description_that_is_no_form_is_refused(text):
    with pytest.raises(UserError):
        form_of(text, None)


def test_flows_of_releases_say_their_form_as_their_cards_do():
    text = 'wfm.Canonical(wfm.mlp(784, 10, 10, activation="relu"), last="sphere+scale")'
    known, form = form_of(text, None)
    assert known.spec == weights.mlp(784, 10, 10) and form == weights.Canonical(known.spec)


def test_calls_are_read_as_data():
    call = calls.read("wfm.weights.lenet5(-1, (2, 'a'), x=True, act=tanh)")
    assert (call.name, call.args) == ("lenet5", (-1, (2, "a")))
    assert call.options == {"x": True, "act": calls.Name("tanh")}


def test_layouts_by_name():
    mlp = network("mlp:4,5,3")
    assert layout("own", mlp)["dense1.kernel"].order == (0, 1)
    assert layout("torch", mlp)["dense1.kernel"].name == "dense1.weight"
    named = layout("torch:dense1=0,dense2=net.2", mlp)
    assert named["dense2.bias"].name == "net.2.bias"
    assert (
        layout("small_cnn_zoo", network("small_cnn")).keys()
        == network("small_cnn").spec.arrays.keys()
    )
    for text in ("pytorch", "torch:dense1", "torch:dense9=0"):
        with pytest.raises(UserError, match=r"no layout|no module"):
            layout(text, mlp)


def test_inputs_of_a_task_take_the_shape_of_the_network():
    flat = jnp.zeros((2, 784))
    assert network("mlp:784,3").inputs_of(flat).shape == (2, 784)
    assert network("lenet5").inputs_of(flat).shape == (2, 28, 28, 1)
    assert network("cnn:1,4,d_out=3").inputs_of(jnp.zeros((2, 64))).shape == (2, 8, 8, 1)
    with pytest.raises(UserError, match="an input of the task has 784 numbers"):
        network("mlp:4,3").inputs_of(flat)
