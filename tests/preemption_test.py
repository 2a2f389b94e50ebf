"""SIGTERM, which clusters may send more than once."""

import signal

import pytest

from training.preemption import (
    SECONDS_FOR_CHIEF,
    Preempted,
    postponed_signals,
    preempt,
    wait_for_chief,
)


@pytest.fixture(autouse=True)
def restored_handlers():
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    handlers = {each: signal.getsignal(each) for each in signals}
    yield
    signal.alarm(0)
    for each, handler in handlers.items():
        signal.signal(each, handler)


def test_a_second_sigterm_does_not_interrupt_the_saving():
    signal.signal(signal.SIGTERM, preempt)
    with pytest.raises(Preempted):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    "sent, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Preempted)]
)
def test_a_signal_waits_for_the_end_of_a_step(sent, error):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, preempt)
    steps = []
    with pytest.raises(error):
        with postponed_signals():
            signal.raise_signal(sent)
            signal.raise_signal(sent)
            steps.append("taken")
        steps.append("not reached")
    assert steps == ["taken"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with postponed_signals():
        pass  # What came before does not come again.


def test_a_second_sigterm_does_not_prolong_the_wait_for_the_chief():
    signal.signal(signal.SIGTERM, wait_for_chief)
    signal.raise_signal(signal.SIGTERM)
    assert 0 < signal.alarm(1) <= SECONDS_FOR_CHIEF  # It returns what was left.
    signal.raise_signal(signal.SIGTERM)
    assert 0 < signal.alarm(0) <= 1
