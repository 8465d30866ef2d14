"""What the labels of a network say, in words."""

from collections.abc import Iterable

from wfm.weights.spec import Group, WeightSpec


def explain(spec: WeightSpec) -> str:
    """`WeightSpec.explain`."""
    width = max(map(len, spec.groups))
    lines = [f"{spec.n_weights:,} weights in {len(spec.arrays)} arrays. Groups of neurons:"]
    for name, group in spec.groups.items():
        lines += [
            f"  {name:{width}}  {group.size} neurons: {', '.join(_of_group(spec, name, group))}"
        ]
        entering = [a for a in spec.arrays if spec.entered(a) == name]
        leaving = [a for a in spec.arrays if name in (g for _, g in spec.ends(a)[:-1])]
        for what, arrays in (("entered by", entering), ("read by", leaving)):
            lines += [f"  {'':{width}}    {what} {', '.join(arrays)}"] if arrays else []
    plain = [f"{n} {spec.arrays[n]}" for n in spec.arrays if int in map(type, spec.axes(n))]
    lines += _section("Arrays with axes that belong to no group:", plain)
    lines += _section("Symmetries that the labels do not say:", spec.symmetries_left())
    lines += _section("Why not more:", getattr(spec.activations, "notes", ()))
    return "\n".join(lines)


def _of_group(spec: WeightSpec, name: str, group: Group) -> Iterable[str]:
    yield "in any order" if group.permutable else "in a fixed order"
    if group.order:
        yield f"permuted together with {group.order!r}"
    yield group.scaling.words


def _section(title: str, lines: Iterable[str]) -> list[str]:
    said = [f"  {line}" for line in lines]
    return [title, *said] if said else []
