"""How a run ends early: Ctrl-C, SIGTERM, lost workers, and the exit codes."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import tensorflow as tf

# The errors of a collective operation that lost one of its members.
WORKER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)

# Exit codes of a run that was stopped and can be resumed: the shell's for Ctrl-C and SIGTERM.
INTERRUPTED = 130
PREEMPTED = 143
SECONDS_FOR_CHIEF = 20  # To save, before another worker leaves too; clusters wait for 30.


class Preempted(BaseException):
    """SIGTERM came, as when a cluster takes a machine back."""


@contextlib.contextmanager
def postponed_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM in this context take effect on the way out of it.

    A run that got Ctrl-C within a step once ended with a segmentation fault in tf.constant, where
    TensorFlow calls Python, and thus handlers of signals. The cause was not found.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread runs handlers.
        return
    came = []
    signals = (signal.SIGINT, signal.SIGTERM)
    handlers = {
        each: signal.signal(each, lambda number, _: came.append(number)) for each in signals
    }
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for each in dict.fromkeys(came):
            signal.raise_signal(each)


def preempt(*_) -> None:
    """The chief's handler of SIGTERM: raises Preempted, so that the run saves its steps.

    Once: clusters repeat the signal, which must not interrupt the saving.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Preempted


def wait_for_chief(*_) -> None:
    """Another worker's handler: takes part in steps until the chief has saved them and left.

    The chief gets the same signal. A second one does not prolong the wait.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(PREEMPTED))
    signal.alarm(SECONDS_FOR_CHIEF)
