"""Products, sums of products, and convolutions."""

from wfm.weights.tracing.nodes import CannotSplit
from wfm.weights.tracing.program import Operation
from wfm.weights.tracing.rules.common import first_said
from wfm.weights.tracing.rules.table import rule, unknown
from wfm.weights.tracing.values import Analysis, Axis, Factor, Value


@rule("dot_general")
def _dot(run: Analysis, operation: Operation, a: Value, b: Value) -> list[Value]:
    (gone_a, gone_b), (batch_a, batch_b) = operation.params["dimension_numbers"]
    for i, j in zip(gone_a, gone_b, strict=True):
        contract(run, a, a.axes[i], b, b.axes[j])
    axes = [
        multiply(run, a, a.axes[i], b, b.axes[j]) for i, j in zip(batch_a, batch_b, strict=True)
    ]
    for value, other, used in ((a, b, (*gone_a, *batch_a)), (b, a, (*gone_b, *batch_b))):
        free = [axis for i, axis in enumerate(value.axes) if i not in used]
        axes += [pass_to(run, axis, value, other) for axis in free]
    return [Value(tuple(axes), a.signal or b.signal)]


def contract(run: Analysis, a: Value, x: Axis, b: Value, y: Axis) -> None:
    """Sum over products of entries along two axes: their factors cancel."""
    for f, g in run.align(x, y):
        if a.signal != b.signal:
            run.read(*((f, a, g) if a.signal else (g, b, f)))
        for one, value, other in ((f, a, g), (g, b, f)):
            if one and value.signal and other is None:
                run.collapse(one)
        run.opposite(f, g)


def multiply(run: Analysis, a: Value, x: Axis, b: Value, y: Axis, times: int = 1) -> Axis:
    """Products of entries at the same places of two axes."""
    made = []
    for f, g in run.align(x, y):
        node = next(h for h in (f, g) if h).node
        total = run.add(f or Factor(node), g or Factor(node), times)
        signal, value, weights = (f, a, g) if a.signal else (g, b, f)
        if a.signal != b.signal and weights:
            if signal:
                run.read(signal, value, weights)
                for unknown in weights.log:
                    run.beside.setdefault(unknown, signal.log)
            total = run.meet(total, weights, entrywise=True)
        elif f and g and a.signal:  # a gain may have met what signals are divided by first
            gains = [h for h in (f, g) if run.scales.is_gain(h.log)]
            total = run.meet(total, gains[0], entrywise=True) if gains else total
        made.append(total)
    return Axis(x.size, tuple(made) or None)


def pass_to(run: Analysis, axis: Axis, value: Value, other: Value) -> Axis:
    """A free axis of one value in a product with another: weights say their first word here."""
    if axis.factors is None or value.signal or not other.signal:
        return axis
    return first_said(run, axis)


@rule("conv_general_dilated")
def _convolve(run: Analysis, operation: Operation, x: Value, kernel: Value) -> list[Value]:
    p = operation.params
    if p["batch_group_count"] != 1:
        return unknown(run, operation, x, kernel)
    of_x, of_kernel, of_made = p["dimension_numbers"]
    groups = p["feature_group_count"]
    why = "places of a convolution have an order"
    run.fix([kernel.axes[i] for i in of_kernel[2:]], why)
    run.fix([x.axes[i] for i in of_x[2:]], why)
    for axis in [kernel.axes[i] for i in of_kernel[2:]] + [x.axes[i] for i in of_x[2:]]:
        run.break_(axis, why)
    features, out = x.axes[of_x[1]], kernel.axes[of_kernel[0]]
    read = kernel.axes[of_kernel[1]]
    if groups == 1:
        contract(run, x, features, kernel, read)
        made = pass_to(run, out, kernel, x)
    else:
        made = _by_groups(run, groups, x, features, kernel, read, out)
        if made is None:
            return unknown(run, operation, x, kernel)
    shape = run.made[0].shape
    axes: list[Axis | None] = [None] * len(shape)
    axes[of_made[0]], axes[of_made[1]] = x.axes[of_x[0]], made
    for number, i in enumerate(of_made[2:]):
        axes[i] = run.fixed(shape[i], why, ("space", number))
    return [Value(tuple(a for a in axes if a), x.signal or kernel.signal)]


def _by_groups(
    run: Analysis, groups: int, x: Value, features: Axis, kernel: Value, read: Axis, out: Axis
) -> Axis | None:
    """Outputs of a grouped convolution: each group of features has its own kernels."""
    if features.factors is None or out.factors is None:
        return None
    try:
        before, inner = run.take(run.factors(features), groups)
        after, own = run.take(run.factors(out), groups)
    except CannotSplit:
        return None
    if inner:
        contract(run, x, Axis(read.size, tuple(inner)), kernel, read)
    else:
        run.drop(*read.factors or ())
    joint = multiply(run, x, Axis(groups, tuple(before)), kernel, Axis(groups, tuple(after)))
    rest = pass_to(run, Axis(out.size // groups, tuple(own)), kernel, x)
    return Axis(out.size, (*(joint.factors or ()), *(rest.factors or ())))
