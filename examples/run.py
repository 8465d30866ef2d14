"""Executes notebooks: `python examples/run.py [NAME.ipynb …]` refreshes what is committed.

`make docs` executes them too, for the site, and leaves the committed ones as they are.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

EXAMPLES = Path(__file__).parent
SECONDS = 1800  # for one cell, on a machine that is busy


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs; an error in a cell is an error here."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        record_timing=False,
        config=Config({"KernelManager": {"transport": "ipc"}}),  # no port that others can see
        resources={"metadata": {"path": str(EXAMPLES.parent)}},
    )
    asyncio.run(client.async_execute())
    return cleaned(notebook)


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what differs from run to run or nobody reads."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02}", {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in map(_cleaned, cell.outputs) if o is not None]
    return notebook


def _cleaned(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    if output.output_type == "stream":  # warnings of compilers and progress bars go to stderr
        return output if output.name == "stdout" else None
    output.metadata = {}
    if "image/png" in output.data:
        output.data = nbformat.from_dict({"image/png": output.data["image/png"]})
    return output


def main(names: list[str]) -> None:
    paths = [EXAMPLES / Path(name).name for name in names] or sorted(EXAMPLES.glob("*.ipynb"))
    for path in paths:
        start = time.monotonic()
        nbformat.write(execute(path), path)
        kilobytes = path.stat().st_size / 1000
        print(f"{path.name}: {time.monotonic() - start:.0f} s, {kilobytes:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
