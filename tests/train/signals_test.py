"""Signals: the first is noted, the second acts, and nothing stays changed."""

import os
import signal
import threading

import pytest

from jax_rcl.train.signals import Asked, Interrupted, Signals

each = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture(autouse=True)
def before():
    """Signals that would otherwise end the tests, noted as they come."""
    came = []

    def note(number, frame):
        came.append(number)

    handlers = {number: signal.signal(number, note) for number in Signals.caught}
    yield came
    for number, handler in handlers.items():
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


@each
def test_the_first_signal_is_noted_and_the_second_acts_as_before(number, before):
    with Signals() as signals:
        assert signals.number is None
        send(number)
        assert signals.number == number and before == []
        send(number)
        assert signals.number == number and before == [number]


def test_the_second_signal_may_be_another_one(before):
    with Signals() as signals:
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert signals.number == signal.SIGTERM and before == [signal.SIGINT]


@each
def test_what_need_not_be_finished_is_left_at_once(number, before):
    with Signals() as signals:
        with pytest.raises(Asked), signals.at_once():
            send(number)
            raise AssertionError("it went on")
        with pytest.raises(Asked), signals.at_once():  # it came before
            raise AssertionError("it began")
    with Signals() as signals:
        with signals.at_once():
            pass
        send(number)
    assert signals.number == number and before == []


@each
def test_handlers_are_put_back_whatever_happens(number, before):
    handlers = [signal.getsignal(number) for number in Signals.caught]
    with pytest.raises(ZeroDivisionError):
        with Signals():
            assert signal.getsignal(number) != handlers[0]
            raise ZeroDivisionError
    with Signals():
        send(number)
    assert [signal.getsignal(number) for number in Signals.caught] == handlers
    send(number)
    assert before == [number]


def test_outside_the_main_thread_nothing_is_caught(before):
    found = []

    def work():
        with Signals() as signals:
            found.extend(signal.getsignal(number) for number in Signals.caught)
            found.append(signals.number)

    handlers = [signal.getsignal(number) for number in Signals.caught]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [*handlers, None]


@each
def test_an_interruption_says_what_stopped_the_run_and_where(number):
    stop = Interrupted(number, 12)
    assert (stop.number, stop.step) == (number, 12)
    assert str(stop) == f"{number.name}: saved step 12; the same command continues"
