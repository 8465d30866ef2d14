"""Run studies, write their pages, and export their flows.

python -m experiments list
python -m experiments run STUDY[:VARIANT] --workdir=DIR [--config.KEY=VALUE …]
python -m experiments page STUDY[:VARIANT] [--workdir=DIR]
python -m experiments export STUDY[:VARIANT] --workdir=DIR --to=DIR [--config.KEY=VALUE …]

The same command again goes on where a run was stopped, and prints one that is finished.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments import records, report
from experiments.command import Config, flat
from experiments.export import CARD, FLOW, export
from experiments.pages import Page, write
from experiments.runner import check, run_study
from experiments.signals import Stopped
from experiments.store import Store
from experiments.study import FOLDER, Study, config_module, load, names
from experiments.workdir import CELLS, Workdir
from wfm import enable_compilation_cache
from wfm.errors import UserError

RESULTS = Path(__file__).parent.parent / "docs" / "results"
HELP = {"-h", "--help"}
OPTIONS = """Options
  STUDY[:VARIANT]           a file of configs/, or a path; its own text names its variants
  --workdir=DIR             folder of the run
  --store=DIR               where outputs of stages are kept; studies that share it share zoos and
                            flows of the same settings (default: store in the workdir)
  --only=KEY=VALUE          only rows at this coordinate; may be given several times
  --to=DIR                  where `export` writes the flow of a run, and a card with its figures
  --config.KEY=VALUE        another value for a key of the config
  --help                    this text, with the keys of the study's config"""


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help tells what there is")


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if not argv or HELP & set(argv):
            print(usage([a for a in argv if a not in HELP]))
            return
        _run(argv)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_status)
    except UserError as error:  # any other exception is a bug, and keeps its traceback
        sys.exit(f"error: {error}")


def _run(argv: Sequence[str]) -> None:
    overrides = [a.removeprefix("--config.") for a in argv if a.startswith("--config.")]
    options = _parser().parse_args([a for a in argv if not a.startswith("--config.")])
    if options.verb == "list":
        print("\n".join(_listed(name) for name in names()))
        return
    study = load(options.study).overridden(overrides)
    if options.verb == "page":
        _page(study, options.workdir)
        return
    if not options.workdir:
        raise UserError("give --workdir=DIR, the folder of the run; --help tells the rest")
    enable_compilation_cache()
    if options.verb == "export":
        _export(study, options)
        return
    command = shlex.join(["python", "-m", "experiments", *argv])
    kept = Store(options.store or Path(options.workdir) / "store", command)
    only = _only(options.only)
    check(study.cells(only), kept)  # before a folder is made
    workdir = Workdir(options.workdir, study)
    kept.open()
    found = run_study(study, workdir, kept, only)
    print(report.tables(study, found, workdir))
    print(f"Report: {workdir / 'report.html'}")


def _page(study: Study, workdir: str | None) -> None:
    target = RESULTS / study.name
    file = Path(workdir) / "records.json" if workdir else target.with_suffix(".json")
    write(Page(study, records.read(file), target, Path(workdir) / CELLS if workdir else None))
    print(f"Page: {target.with_suffix('.md')}")


def _export(study: Study, options: argparse.Namespace) -> None:
    if not options.to:
        raise UserError("give --to=DIR, the folder for the flow and its card")
    workdir, to = Path(options.workdir), Path(options.to)
    kept = Store(options.store or workdir / "store")
    export(study, workdir, kept, _only(options.only), to)
    print(f"Flow and card: {to / FLOW}, {to / CARD}")


def _parser() -> Parser:
    parser = Parser(prog="python -m experiments", add_help=False, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)
    verbs.add_parser("list", add_help=False)
    run, page, export_ = (
        verbs.add_parser(v, add_help=False, allow_abbrev=False) for v in ("run", "page", "export")
    )
    for verb in (run, page, export_):
        verb.add_argument("study")
        verb.add_argument("--workdir")
    for verb in (run, export_):
        verb.add_argument("--store")
        verb.add_argument("--only", action="append", default=[])
    export_.add_argument("--to")
    return parser


def _only(options: Sequence[str]) -> dict[str, Any]:
    for option in options:
        if "=" not in option:
            raise UserError(f"--only={option} names no value; write --only=KEY=VALUE")
    return dict(option.split("=", 1) for option in options)


def _listed(name: str) -> str:
    module = config_module(name)
    first = (module.__doc__ or "").splitlines()[0]
    variants = getattr(module, "VARIANTS", ())
    return f"{name:16}{first}" + (f" Variants: {', '.join(variants)}." if variants else "")


def usage(argv: Sequence[str]) -> str:
    """The text of `--help`: usage, and every key of a study's config with its value."""
    lines = [(__doc__ or "").strip(), "", OPTIONS]
    study = next((a for a in argv[1:] if not a.startswith("-")), None)
    if study is None:
        return "\n".join(lines)
    module, config = config_module(study.partition(":")[0]), load(study).base
    lines += ["", f"{study}: {module.__doc__ or ''}", "Keys and values of its config:"]
    comments = _comments(config)
    for key, value in flat(config.to_dict()).items():
        option = f"--config.{key}={shlex.quote(str(value))}"
        lines.append(f"  {option:48} {comments.get(key, '')}".rstrip())
    return "\n".join(lines)


def _comments(config: Config) -> dict[str, str]:
    """The comments in `configs/` behind each key."""
    found: dict[str, str] = {}
    for source in sorted(FOLDER.glob("*.py")):
        found |= re.findall(r"^ *config\.([\w.]+) = .*  # (.*)$", source.read_text(), re.MULTILINE)
    return found


if __name__ == "__main__":
    main()
