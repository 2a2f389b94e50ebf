"""SIGTERM, which clusters may send more than once."""

import signal

import pytest

from training.preemption import SECONDS_FOR_CHIEF, Preempted, preempt, wait_for_chief


@pytest.fixture(autouse=True)
def restored_handlers():
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGALRM)}
    yield
    signal.alarm(0)
    for each, handler in handlers.items():
        signal.signal(each, handler)


def test_a_second_sigterm_does_not_interrupt_the_saving():
    signal.signal(signal.SIGTERM, preempt)
    with pytest.raises(Preempted):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)


def test_a_second_sigterm_does_not_prolong_the_wait_for_the_chief():
    signal.signal(signal.SIGTERM, wait_for_chief)
    signal.raise_signal(signal.SIGTERM)
    assert 0 < signal.alarm(1) <= SECONDS_FOR_CHIEF  # It returns what was left.
    signal.raise_signal(signal.SIGTERM)
    assert 0 < signal.alarm(0) <= 1
