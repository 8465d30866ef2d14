"""Run one case in its own process: `python -m experiments.bench.worker MODULE CASE JSON`."""

import importlib
import json
import sys


def main() -> None:
    """Print the figures of the case as the last line of standard output."""
    module, case, options = sys.argv[1:]
    run = getattr(importlib.import_module(f"experiments.bench.{module}"), case)
    print(json.dumps(run(**json.loads(options))))


if __name__ == "__main__":
    main()
