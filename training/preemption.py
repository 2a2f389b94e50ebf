"""How a run ends early: Ctrl-C, SIGTERM, lost workers, and the exit codes."""

import os
import signal

import tensorflow as tf

# What TensorFlow raises where a collective operation lost one of its members.
WORKER_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)

# Exit codes of a run that was stopped and can go on: the shell's for Ctrl-C and for SIGTERM.
INTERRUPTED = 130
PREEMPTED = 143
SECONDS_FOR_CHIEF = 20  # To save, before another worker leaves too; clusters wait for 30.


class Preempted(BaseException):
    """SIGTERM came, as when a cluster takes a machine back."""


def preempt(*_):
    raise Preempted


def wait_for_chief(*_):
    """Takes part in steps until the chief, which is told to stop too, has saved them and left."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(PREEMPTED))
    signal.alarm(SECONDS_FOR_CHIEF)
