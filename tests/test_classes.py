"""Classes are abstract or final, and what is public says its types.

Abstract or final is the pattern of equinox (https://docs.kidger.site/equinox/pattern): no class
overrides what another one computes, so that a method is where one looks for it.
"""

import importlib
import inspect
import pkgutil

import pytest

import wfm

MODULES = [importlib.import_module(m.name) for m in pkgutil.walk_packages(wfm.__path__, "wfm.")]
CLASSES = sorted(
    {
        member
        for module in MODULES
        for member in vars(module).values()
        if inspect.isclass(member) and member.__module__ == module.__name__
    },
    key=lambda c: (c.__module__, c.__name__),
)
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in getattr(module, "__all__", ())
}

# Concrete, and with subclasses.
NOT_FINAL = {
    "GraphField": "abstract by its `layer`, a class that it lacks; nnx has no abstract attributes",
    "UserError": "exceptions are told apart by their classes",
    "WeightGraph": "a CompleteGraph is one with more edges, which it packs as one matrix",
}
# What has a value in a base class that others override.
DEFAULTS = {
    ("Coupling", "given"): "most batches are points x₁ alone",
    ("Coupling", "independent"): "a flag, which is off",
    ("GraphField", "graph_of"): "most layers work on the edges that have weights",
    ("Manifold", "dist"): "products add up their factors' own, which may keep more digits",
    ("Manifold", "frame"): "right in the metric of the surrounding coordinates",
    ("Manifold", "is_vector_space"): "a flag, which is off",
    ("Manifold", "log_volume"): "0 in the metric of the surrounding coordinates",
    ("Manifold", "log_stretch"): "of manifolds with an origin; raises for others",
    ("Manifold", "log_total_volume"): "of compact manifolds; raises for others",
    ("Manifold", "normal"): "of manifolds with an origin; raises for others",
    ("Manifold", "off"): "the way to `project`, where a point has one name only",
    ("Manifold", "origin"): "of manifolds with an origin; raises for others",
    ("Manifold", "squared_distances"): "for all pairs at once there may be a faster way",
    ("Manifold", "uniform"): "of compact manifolds; raises for others",
    ("Prediction", "jumps"): "a flag, which is off",
    ("Prior", "gaussian"): "an operation that most priors lack, so that it raises",
    ("Scaling", "linear"): "a flag, which is off",
    ("Scaling", "silent"): "right for functions that are 0 at 0 alone",
    ("Scaling", "unit_norm"): "a flag, which is off",
    ("WeightGraph", "_without_weights"): NOT_FINAL["WeightGraph"],
    ("WeightGraph", "pack_edges"): NOT_FINAL["WeightGraph"],
    ("WeightGraph", "pairs"): NOT_FINAL["WeightGraph"],
    ("WeightGraph", "unpack_edges"): NOT_FINAL["WeightGraph"],
}
of_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda c: f"{c.__module__}.{c.__name__}")


def overridden(cls):
    """Base class and name of everything concrete that a class of wfm gives anew."""
    for name in vars(cls):
        # Python's own names, and what metaclasses write.
        if name.startswith(("__", "_abc_", "_pytree__")):
            continue
        bases = [b for b in cls.__mro__[1:] if b.__module__.startswith("wfm.") and name in vars(b)]
        if bases and not getattr(vars(bases[0])[name], "__isabstractmethod__", False):
            yield bases[0].__name__, name


@of_class
def test_classes_are_abstract_or_final(cls):
    if not inspect.isabstract(cls) and cls.__name__ not in NOT_FINAL:
        assert [c for c in CLASSES if cls in c.__mro__[1:]] == []


@of_class
def test_no_class_overrides_what_another_computes(cls):
    assert set(overridden(cls)) <= DEFAULTS.keys()


def test_an_override_is_found():
    ours = type("Ours", (wfm.Sphere,), {"exp": lambda self, x, v: x})
    assert list(overridden(ours)) == [("Sphere", "exp")]


def untyped(function):
    """Parameters of a function, and its result, that say no type."""
    signature = inspect.signature(function)
    given = [p for name, p in signature.parameters.items() if name not in ("self", "cls")]
    missing = [p.name for p in given if p.annotation is p.empty]
    made = function.__name__ == "__init__"
    return missing + ["return"] * (signature.return_annotation is signature.empty and not made)


def functions(public):
    """A public function itself, or the public methods of a class that wfm writes."""
    if not inspect.isclass(public):
        return {public.__name__: public} if inspect.isfunction(public) else {}
    members = {n: getattr(m, "__func__", m) for n, m in vars(public).items() if n[0] != "_"}
    written = () if getattr(public, "_is_protocol", False) else ("__init__", "__call__")
    members |= {n: vars(public)[n] for n in written if n in vars(public)}
    members = {n: m.fget if isinstance(m, property) else m for n, m in members.items()}
    return {n: m for n, m in members.items() if inspect.isfunction(m)}


@pytest.mark.parametrize("public", PUBLIC.values(), ids=PUBLIC)
def test_public_functions_say_their_types(public):
    missing = {name: untyped(f) for name, f in functions(public).items()}
    assert {name: what for name, what in missing.items() if what} == {}


def test_a_missing_type_is_found():
    def f(a: int, b, *c):
        return a

    assert untyped(f) == ["b", "c", "return"]
