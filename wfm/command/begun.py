"""Training that a kill does not lose: its states beside the result, until that is written."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from wfm.atomic import writing
from wfm.command.progress import say
from wfm.errors import UserError
from wfm.training import Checkpoints, Diverged


@contextmanager
def begun(out: Path, settings: Mapping[str, Any]) -> Iterator[Checkpoints]:
    """The states of a training in `OUT.begun`, which is removed once what the block makes is there.

    If an exception ends the block, the folder stays for the same command to go on from, unless it
    is empty or the training diverged, as it would again. States of other `settings` are refused
    when they are restored; a folder that another process trains in is refused at once.
    """
    out = out.absolute()
    folder = out.with_name(f"{out.name}.begun")
    states = folder / "states"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a")
    with lock:
        _lock(lock, folder)
        over = True
        try:
            with Checkpoints(states, settings) as checkpoints:
                yield checkpoints
        except Diverged as error:
            raise UserError(
                f"the loss became NaN or infinite at step {error.step}; try another --seed or a "
                "smaller --width"
            ) from error
        except BaseException as error:
            over = not any(states.iterdir())
            if isinstance(error, KeyboardInterrupt) and not over:
                say(f"the same command goes on from {folder}; delete it if you want none of it")
            raise
        finally:
            if over:
                shutil.rmtree(folder)


def _lock(file: IO[str], folder: Path) -> None:
    """Refuse a folder that another process has locked; the kernel unlocks when a process dies."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"another process trains in {folder}; wait for it, or choose another --out"
        ) from None
    except (ImportError, OSError):  # Windows, or a file system without locks
        return
