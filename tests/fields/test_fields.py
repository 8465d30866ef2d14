"""Vector fields: laws over a table of them, and layers against their written-out formulas."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.cases import cases
from tests.weights.table import NETWORKS, canonical, weights
from wfm.fields import (
    PNA,
    CompleteGraph,
    FullTransformer,
    MLPField,
    RelationalTransformer,
    WeightGraph,
    functional,
)
from wfm.fields.linear import rows_times
from wfm.fields.pna import aggregate, scaled
from wfm.weights import mlp, permute, random_permutation

# Those with graphs of their own: activation functions make no difference here.
GRAPHS = {name: NETWORKS[name][0] for name in ("mlp", "linear", "residual", "cnn")}
networks = pytest.mark.parametrize("spec", cases(GRAPHS, often=("residual",)))
folds = pytest.mark.parametrize("fold", [False, True])
# Fields on graphs, which claim equivariance and to fit other widths.
FIELDS = {"transformer": RelationalTransformer, "full": FullTransformer, "pna": PNA}
fields = pytest.mark.parametrize("kind", FIELDS.values(), ids=FIELDS)
graphs = pytest.mark.parametrize("graph_of", [WeightGraph, CompleteGraph])


def jiggled(field):
    """`field` as `(t, x)`, with parameters away from their start, where heads are zero."""
    bind, params = functional(field)
    bound = bind(jiggled_parameters(params, 0.3))
    return jax.jit(lambda t, x: bound(t, x))


def jiggled_parameters(params, by):
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    leaves = [a + by * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return structure.unflatten(leaves)


def small(kind, spec, **options):
    return kind(spec, **({"width": 4, "depth": 2} | options), rngs=nnx.Rngs(0))


def transformer(spec, **options):
    return small(RelationalTransformer, spec, **options)


@networks
@folds
@graphs
def test_graph_reads_and_writes_every_weight_once(spec, fold, graph_of):
    spec = canonical(spec).spec
    graph, w = graph_of(spec, fold), weights(spec, 0)
    nodes, edges = jax.jit(graph.read)(w)
    chex.assert_trees_all_equal(jax.jit(lambda n, e: graph.write(n, e))(nodes, edges), w)
    assert sum(a.size for a in [*nodes.values(), *edges.values()]) == spec.n_weights
    marked = {g: jnp.full((len(n), 2), 1.0 * i) for i, (g, n) in enumerate(nodes.items())}
    again = jax.jit(lambda marked: graph.unpack_nodes(graph.pack_nodes(marked)))(marked)
    chex.assert_trees_all_equal(again, marked)
    marked = {b: jnp.full((*e.shape[:2], 2), 1.0 * i) for i, (b, e) in enumerate(edges.items())}
    if marked:
        again = jax.jit(lambda marked: graph.unpack_edges(graph.pack_edges(marked)))(marked)
        chex.assert_trees_all_equal(again, marked)
        n = jax.random.normal(jax.random.key(0), (sum(graph.sizes.values()), 2))
        pairs, node = jax.jit(
            lambda n: (graph.unpack_edges(graph.pairs(n, 3 * n)), graph.unpack_nodes(n))
        )(n)
        for s, r in graph.blocks:
            chex.assert_trees_all_close(pairs[s, r], node[s][:, None] + 3 * node[r][None])


def test_a_complete_graph_joins_all():
    graph = CompleteGraph(canonical(mlp(3, 4, 2)).spec)
    n = sum(graph.sizes.values())
    assert sum(graph.sizes[s] * graph.sizes[r] for s, r in graph.blocks) == n**2
    assert graph.edge_channels["in", "h1"] == 1
    assert graph.edge_channels["h1", "in"] == graph.edge_channels["h1", "h1"] == 0


def test_what_folding_folds():
    spec = canonical(mlp(30, 16, 8, 2)).spec
    folded = WeightGraph(spec, fold=True)
    assert folded.sizes == {"h1": 16, "h2": 8, "global": 1}
    assert folded.node_channels == {"h1": 31, "h2": 1 + 2, "global": 2 + 1}
    assert folded.edge_channels == {("h1", "h2"): 1, ("global", "h1"): 0, ("global", "h2"): 0}
    plain = WeightGraph(spec)
    assert plain.sizes == {"in": 30, "h1": 16, "h2": 8, "out": 2, "global": 1}
    assert plain.node_channels == {"in": 0, "h1": 1, "h2": 1, "out": 1, "global": 1}


@networks
@folds
@fields
def test_equivariance(spec, fold, kind):
    spec = canonical(spec).spec
    field, x, t = jiggled(small(kind, spec, fold=fold)), weights(spec, 0), jnp.float32(0.3)
    permutation = random_permutation(spec, jax.random.key(1))
    moved = field(t, permute(spec, permutation, x))
    chex.assert_trees_all_close(
        moved, permute(spec, permutation, field(t, x)), rtol=2e-4, atol=2e-4
    )
    # The field is no constant, and time matters.
    assert any((moved[n] != field(t + 0.5, x)[n]).any() for n in moved)


def test_own_embeddings_break_equivariance():
    spec = mlp(5, 8, 6, 3)
    field, x = jiggled(transformer(spec, own_embedding=("h1",))), weights(spec, 0)
    permutation = random_permutation(spec, jax.random.key(1))
    moved, back = (
        field(0.3, permute(spec, permutation, x)),
        permute(spec, permutation, field(0.3, x)),
    )
    assert jnp.abs(moved["dense1.bias"] - back["dense1.bias"]).max() > 1e-2


@pytest.mark.slow
@folds
@fields
def test_parameters_fit_other_widths(fold, kind):
    spec = mlp(5, 8, 6, 3)
    _, params = functional(small(kind, spec, fold=fold))
    wide = spec.resize(h1=20, h2=11)
    bind, fresh = functional(small(kind, wide, fold=fold))
    chex.assert_trees_all_equal_shapes(params, fresh)
    out = bind(params)(jnp.float32(0.5), weights(wide, 0))
    wide.check(out)


@pytest.mark.slow
@fields
def test_every_weight_hears_of_every_other(kind):
    spec = canonical(mlp(3, 4, 5, 2)).spec
    field = jiggled(small(kind, spec, width=8, depth=5, fold=True))
    x = weights(spec, 0)
    before = field(0.3, x)
    for name in x:
        after = field(0.3, x | {name: x[name] + 1.0})
        for other in x:
            assert jnp.abs(after[other] - before[other]).max() > 1e-7, (name, other)


def test_attention_equals_the_formula_written_out():
    """q_ij = n_i Qn + e_ij Qe and so on, one node at a time, in float64 by numpy."""
    spec, d = mlp(2, 3, 2), 4
    graph = WeightGraph(spec)
    module = RelationalTransformer(spec, width=d, depth=1, rngs=nnx.Rngs(0)).layers
    attention = nnx.merge(*jax.tree.map(lambda a: a[0], nnx.split(module))).attention
    rng = np.random.default_rng(0)
    n, e = rng.normal(size=(7, d)), rng.normal(size=(2 * 3 + 3 * 2, d))
    n32, e32 = (jnp.asarray(a, jnp.float32) for a in (n, e))
    found = jax.jit(lambda n, e: attention(graph, n, e))(n32, e32)

    def matrix(linear):
        return np.asarray(linear.kernel[...], np.float64)

    starts, edge_of = {"in": 0, "h1": 2, "out": 5}, {}
    row = 0
    for s, r in graph.blocks:
        for i in range(graph.sizes[s]):
            for j in range(graph.sizes[r]):
                edge_of[starts[s] + i, starts[r] + j] = row
                row += 1
    expected = np.zeros((7, d))
    for i in range(7):
        logits, values = [], []
        for (a, b), edge in edge_of.items():
            if i not in (a, b):
                continue
            j, seen = (a, attention.incoming) if i == b else (b, attention.outgoing)
            q = n[i] @ matrix(attention.query) + e[edge] @ matrix(seen.query)
            k = n[j] @ matrix(attention.key) + e[edge] @ matrix(seen.key)
            values.append(n[j] @ matrix(attention.value) + e[edge] @ matrix(seen.value))
            logits.append(q @ k / np.sqrt(d))
        shares = np.exp(logits) / np.exp(logits).sum()
        expected[i] = shares @ np.array(values) @ matrix(attention.out)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_full_attention_equals_the_formula_written_out():
    """As above, but every node looks at all nodes, along the edge from the other to itself."""
    spec, d = mlp(2, 3, 2), 4
    graph = CompleteGraph(spec)
    module = small(FullTransformer, spec, depth=1).layers
    layer = nnx.merge(*jax.tree.map(lambda a: a[0], nnx.split(module)))
    rng = np.random.default_rng(0)
    n, e = rng.normal(size=(7, d)), rng.normal(size=(7, 7, d))

    def normed(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    def m(linear):
        return np.asarray(linear.kernel[...], np.float64)

    def gelu(x):
        return np.asarray(jax.nn.gelu(jnp.asarray(x)), np.float64)

    def mlp_of(module, x, bias):
        return gelu(x + np.asarray(bias[...])) @ m(module.down)

    f, g, seen = normed(n), normed(e), layer.seen
    after = n.copy()
    for i in range(7):
        q = f[i] @ m(layer.query) + g[:, i] @ m(seen.query)
        k = f @ m(layer.key) + g[:, i] @ m(seen.key)
        v = f @ m(layer.value) + g[:, i] @ m(seen.value)
        shares = np.exp((q * k).sum(-1) / np.sqrt(d))
        after[i] += (shares / shares.sum()) @ v @ m(layer.out)
    h, edge = normed(after), layer.edge_mlp
    hidden = g @ m(edge.edge) + g.swapaxes(0, 1) @ m(layer.reverse)
    hidden += (h @ m(edge.sender))[:, None] + (h @ m(edge.receiver))[None]
    e_out = e + mlp_of(edge, hidden, edge.receiver.bias)
    n_out = after + mlp_of(layer.node_mlp, h @ m(layer.node_mlp.up), layer.node_mlp.up.bias)
    n32, e32 = jnp.asarray(n, jnp.float32), jnp.asarray(e, jnp.float32).reshape(49, d)
    found = jax.jit(lambda n, e: layer(graph, n, e))(n32, e32)
    np.testing.assert_allclose(found[0], n_out, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1].reshape(7, 7, d), e_out, rtol=1e-3, atol=1e-4)


def test_aggregates_equal_those_of_lists_of_messages():
    """Node by node, in numpy; degrees differ, and one node hears one message only."""
    spec = mlp(4, 1, 3)
    graph, rng = WeightGraph(spec), np.random.default_rng(0)
    inward, outward = ({b: rng.normal(size=(*s, 2)) for b, s in shapes(graph)} for _ in range(2))
    heard = {(g, i): [] for g, size in graph.sizes.items() for i in range(size)}
    for (s, r), messages in inward.items():
        for i, j in np.ndindex(*messages.shape[:2]):
            heard[r, j].append(messages[i, j])
            heard[s, i].append(outward[s, r][i, j])
    logs = np.log([1 + len(m) for m in heard.values()])
    expected = []
    for messages, log in zip(heard.values(), logs, strict=True):
        m = np.array(messages)
        four = np.concatenate([m.mean(0), np.sqrt(m.var(0) + 1e-5), m.max(0), m.min(0)])
        scale = log / logs.mean()
        expected.append(np.concatenate([four, four * scale, four / scale]))
    to32 = lambda blocks: {b: jnp.asarray(a, jnp.float32) for b, a in blocks.items()}  # noqa: E731
    found = scaled(graph, aggregate(graph, to32(inward), to32(outward)))
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-3, atol=1e-4)


def shapes(graph):
    return [((s, r), (graph.sizes[s], graph.sizes[r])) for s, r in graph.blocks]


@pytest.mark.slow
@fields
def test_half_precision_stays_near_single(kind):
    """The layers alone work in bfloat16, which has 8 bits: parameters and outputs do not change."""
    spec = canonical(mlp(5, 8, 3)).spec
    exact, half = (small(kind, spec, width=16, dtype=d) for d in (jnp.float32, jnp.bfloat16))
    x = weights(spec, 0)
    a, b = jiggled(exact)(0.3, x), jiggled(half)(0.3, x)
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    error = sum(float(((a[n] - b[n]) ** 2).sum()) for n in a)
    size = sum(float(((a[n] - x[n]) ** 2).sum()) for n in a)
    assert 0 < error < (10 * 2**-8) ** 2 * size


@pytest.mark.parametrize("m", [2, 5])
def test_products_have_all_derivatives_of_products(m):
    """Both modes, one over the other, for stacked rows or kernels; and half precision."""
    keys = jax.random.split(jax.random.key(0), 5)
    shapes = [(4, 6, m), (m, 3), (4, 6, 3), (4, 6, m), (m, 3)]
    x, w, out, dx, dw = (jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True))

    def derivatives(product):
        stacked = lambda x, w: jax.vmap(product, (0, None))(x, w)  # noqa: E731
        bent = lambda x, w: (jnp.sin(stacked(x, w)) * out).sum()  # noqa: E731
        slope = lambda x, w: jax.jvp(bent, (x, w), (dx, dw))[1]  # noqa: E731
        y, pull = jax.vjp(stacked, x, w)
        return {
            "value and gradients": (y, pull(out)),
            "along both": jax.jvp(bent, (x, w), (dx, dw)),
            "along rows alone": jax.jvp(lambda x: bent(x, w), (x,), (dx,)),
            "gradient along both": jax.jvp(jax.grad(bent, (0, 1)), (x, w), (dx, dw))[1],
            "gradient of that along both": jax.grad(slope, (0, 1))(x, w),
            "stacked kernels": jax.vmap(jax.grad(bent, 1), (None, 0))(x, jnp.stack([w, dw])),
            "no rows": jax.grad(lambda w: product(x[0, :0], w).sum())(w),
        }

    found, expected = (jax.jit(partial(derivatives, f))() for f in (rows_times, jnp.matmul))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)
    half = [a.astype(jnp.bfloat16) for a in (x[0], w, dx[0], dw)]
    change = jax.jvp(rows_times, half[:2], half[2:])[1]
    assert change.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        change.astype(jnp.float32), dx[0] @ w + x[0] @ dw, atol=0.05 * m, rtol=0.02
    )


@pytest.mark.slow
@fields
def test_forward_derivatives_of_fields_are_differences_of_their_outputs(kind):
    """None is refused, and none silently 0."""
    spec = mlp(3, 4, 2)
    bind, params = functional(small(kind, spec, depth=1))
    field = bind(jiggled_parameters(params, 0.3))
    x, v = (weights(spec, seed) for seed in range(2))

    @jax.jit
    def both(x, v):
        move = lambda h: field(jnp.float32(0.3), jax.tree.map(lambda a, b: a + h * b, x, v))  # noqa: E731
        h = jnp.array([1e-2, -1e-2])
        ends, forward = jax.vmap(lambda h: jax.jvp(move, (h,), (jnp.ones(()),)))(h)
        return jax.tree.map(lambda a: a.mean(0), forward), jax.tree.map(
            lambda a: (a[0] - a[1]) / 2e-2, ends
        )

    forward, difference = both(x, v)
    chex.assert_trees_all_close(forward, difference, rtol=2e-2, atol=5e-3)
    assert all(jnp.abs(a).max() > 1e-2 for a in jax.tree.leaves(forward))


def test_units_scale_inputs_and_outputs():
    spec = mlp(3, 4, 2)
    units = {name: 2.0 + i for i, name in enumerate(spec.arrays)}
    plain, scaled = jiggled(transformer(spec)), jiggled(transformer(spec, unit=units))
    x = weights(spec, 0)
    expected = {n: units[n] * a for n, a in plain(0.2, x).items()}
    found = scaled(0.2, {n: units[n] * a for n, a in x.items()})
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


def test_arrays_that_join_three_groups_are_refused():
    spec = mlp(3, 4, 2)
    bad = {**spec.arrays, "w": ("in", "h1", "out")}
    with pytest.raises(ValueError, match="joins more than two groups"):
        WeightGraph(type(spec)(spec.groups, bad, spec.activations))


def test_mlp_field_keeps_the_structure():
    like = {"a": jnp.ones((2, 3)), "b": jnp.ones(())}
    field = MLPField(like, width=8, coordinates=jnp.sin, rngs=nnx.Rngs(0))
    out = field(jnp.float32(0.1), like)
    chex.assert_trees_all_equal_shapes(out, like)
    shifted = jax.tree.map(lambda a: a + 2 * jnp.pi, like)
    chex.assert_trees_all_close(field(jnp.float32(0.1), shifted), out, atol=1e-4)


def test_mlp_field_works_in_units():
    """Points and outputs twice as large, in units twice as large: the same network."""
    like, key = {"a": jnp.ones((2, 3)), "b": jnp.ones(())}, 0
    plain = MLPField(like, width=8, rngs=nnx.Rngs(key))
    scaled = MLPField(like, width=8, unit={"a": 2.0, "b": 0.5}, rngs=nnx.Rngs(key))
    out = plain(jnp.float32(0.1), like)
    moved = scaled(jnp.float32(0.1), {"a": 2 * like["a"], "b": 0.5 * like["b"]})
    chex.assert_trees_all_close(moved, {"a": 2 * out["a"], "b": 0.5 * out["b"]}, rtol=1e-6)
