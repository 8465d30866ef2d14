"""Cases of a law: a few in `make test`, all of them in `make test-all`."""

import pytest


def cases(table, often):
    """Parameters of the entries of `table`, by name; those not named in `often` are slow."""
    assert set(often) <= set(table), set(often) - set(table)

    def case(name, value):
        values = value if isinstance(value, tuple) else (value,)
        return pytest.param(*values, id=name, marks=() if name in often else pytest.mark.slow)

    return [case(name, value) for name, value in table.items()]
