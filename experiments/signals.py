"""Stopping a run that is asked to stop, once its state is safe."""

import signal
import threading
from types import FrameType

from wfm.devices import most

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """A signal ended a run early, after its state was saved."""

    def __init__(self, number: int, step: int):
        super().__init__(
            f"stopped by {signal.Signals(number).name} at step {step}; the state is saved, and "
            "the same command goes on from it"
        )
        # Not 0: a loop of commands or a scheduler must not take this run for a finished one.
        self.exit_status = 128 + number


class StopSignals:
    """While open, the first SIGTERM or SIGINT is only noted; a second one acts as usual.

    A signal of which nothing came acts when it closes.
    """

    def __init__(self):
        self._number = 0
        self._before = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python forbids it
            self._before = {s: signal.signal(s, self._note) for s in STOPPING}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._restore()
        if self._number and kind is None:
            signal.raise_signal(self._number)

    def noted(self) -> int:
        """The number of the signal, or 0; the same in all processes of a run."""
        return most(self._number)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
