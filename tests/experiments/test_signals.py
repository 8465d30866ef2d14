"""Signals noted for a while."""

import signal
import threading

import pytest

from experiments.signals import Stopped, StopSignals


@pytest.fixture
def caught():
    """What reaches the handler set before."""
    numbers = []
    old = {s: signal.signal(s, lambda n, _: numbers.append(n)) for s in (15, 2)}
    yield numbers
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_second_acts_as_before(caught, number):
    with pytest.raises(Stopped, match=f"stopped by {number.name} at step 7; the state is saved"):  # noqa: SIM117
        with StopSignals() as signals:
            assert signals.noted() == 0
            signal.raise_signal(number)
            assert (signals.noted(), caught) == (number, [])
            signal.raise_signal(number)
            assert caught == [number]
            raise Stopped(signals.noted(), 7)
    assert caught == [number]
    signal.raise_signal(signal.SIGTERM)
    assert caught == [number, signal.SIGTERM]


def test_a_signal_that_nothing_came_of_acts_when_the_block_ends(caught):
    with StopSignals():
        signal.raise_signal(signal.SIGTERM)
        assert caught == []
    assert caught == [signal.SIGTERM]


def test_without_a_signal_the_handlers_are_as_before(caught):
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    assert caught == []


def test_other_threads_leave_signals_alone(caught):
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with StopSignals() as signals:
            seen.append((signals.noted(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, before)]
