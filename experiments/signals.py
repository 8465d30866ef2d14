"""Stopping a run on a signal, once its state is saved."""

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
        # Not 0: a loop of commands or a scheduler must not consider this run finished.
        self.exit_status = 128 + number


class StopSignals:
    """While open, the first SIGTERM or SIGINT is only recorded; a second one acts as usual.

    A recorded signal without effect acts when this closes.
    """

    def __init__(self):
        self._number = 0
        self._before = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # Python forbids it elsewhere
            self._before = {s: signal.signal(s, self._note) for s in STOPPING}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._restore()
        if self._number and kind is None:
            signal.raise_signal(self._number)

    def noted(self) -> int:
        """The number of the recorded signal, or 0; the same in all processes of a run."""
        return most(self._number)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
