"""The command line: parsers, errors and progress; numbers and tables as text."""

import argparse
import contextlib
import logging
import math
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TypeVar

T = TypeVar("T")
SECONDS_BETWEEN_UPDATES = 0.5  # In a terminal, where the line is overwritten.
SECONDS_BETWEEN_LINES = 10  # Elsewhere.


class Progress:
    """A line with a loop's progress and the time left.

    In a terminal, the line is overwritten; elsewhere a new line is printed every ten seconds and at
    the end.
    """

    def __init__(self, what: str, total: int):
        self._what, self._total, self._first = what, total, 0
        self._start = self._shown_at = None
        self._terminal = sys.stdout.isatty()
        self._interval = SECONDS_BETWEEN_UPDATES if self._terminal else SECONDS_BETWEEN_LINES

    def due(self, done: int) -> bool:
        """Whether to show a line: an interval has passed, or all items are done.

        The clock starts at the first call, so the first item, which may include compiling, does
        not count.
        """
        if self._start is None:
            self._first, self._start = done, time.monotonic()
            self._shown_at = self._start
        return done >= self._total or time.monotonic() - self._shown_at >= self._interval

    def rate(self, done: int) -> float:
        """Items per second since the first one."""
        return (done - self._first) / max(time.monotonic() - self._start, 1e-9)

    def show(self, done: int, details: str = "") -> None:
        """Prints the line; details are more text for it, such as a loss."""
        if done < self._total:
            left = f"{duration((self._total - done) / self.rate(done))} left"
        else:
            left = f"{duration(time.monotonic() - self._start)} total"
        line = " | ".join(filter(None, (f"{self._what} {done}/{self._total}", details, left)))
        if self._terminal:
            print(f"\r{line}\x1b[K", end="\n" if done >= self._total else "", flush=True)
        else:
            print(line, flush=True)
        self._shown_at = time.monotonic()


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yields the items, and shows the progress."""
    progress = Progress(what, total)
    for done, item in enumerate(items, start=1):
        yield item
        if progress.due(done):
            progress.show(done)


def duration(seconds: float) -> str:
    """Seconds -> `m:ss` or `h:mm:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells -> lines with aligned columns: the first to the left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the header first -> a table in Markdown."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def first_line(error: BaseException) -> str:
    """An error -> the first line of its text, at most 300 characters; its type if it has none."""
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def counted(things: Sized | int, name: str, plural: str = "") -> str:
    """Things or their number, and what one is called -> `1 image`, `2 images`."""
    number = things if isinstance(things, int) else len(things)
    return f"{number} {name if number == 1 else plural or name + 's'}"


def percent(value: float | None) -> str:
    """A fraction -> `72.24`, in percent; `-` for None and NaN."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f}"


def signed_percent(value: float | None) -> str:
    """A difference of fractions -> `+0.31`, in percent with its sign; `-` for None and NaN."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:+.2f}"


def interval_text(interval: Sequence[float] | None, *, signed: bool = False) -> str:
    """Two bounds, as fractions -> `69.89 to 73.70`, in percent; `-` for None and NaN."""
    if interval is None or any(map(math.isnan, interval)):
        return "-"
    return " to ".join(map(signed_percent if signed else percent, interval))


def make_parser(module: str, description: str) -> argparse.ArgumentParser:
    """A module and its docstring -> a parser for `python -m MODULE`; --help shows the docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def parse_early(parser: argparse.ArgumentParser) -> None:
    """Parses the command line, for --help and errors, and then imports TensorFlow, which is slow.

    For use above a module's other imports, if the module is run as a program.
    """
    parser.parse_args()
    import_tensorflow()


def import_tensorflow() -> None:
    """Imports TensorFlow with oneDNN, and without its start-up lines and TFDS's warnings.

    On CPUs without AVX-512, where TensorFlow turns oneDNN off, it still makes a training step over
    three times as fast. TensorFlow 2.21 logs to stderr while it is imported and while it looks for
    GPUs, whatever TF_CPP_MIN_LOG_LEVEL is. Where there is an NVIDIA driver, the lines stay: they
    say why a GPU is not used.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns of data sets not built yet.
    if pathlib.Path("/proc/driver/nvidia").exists():
        import tensorflow  # noqa: F401

        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _without_stderr():
        import tensorflow

        tensorflow.config.list_physical_devices()


@contextlib.contextmanager
def _without_stderr():
    """Drops what libraries write to stderr; exceptions are raised as ever."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextlib.contextmanager
def errors_in_a_line() -> Iterator[None]:
    """Turns errors that a user can fix into one line on stderr and exit code 1.

    Ctrl-C exits with code 130. The traceback goes to absl's log, which shows it at --verbosity=1.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (ValueError, OSError, *_tensorflow_errors())):
            raise
        logging.getLogger("absl").debug(traceback.format_exc())
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)


def _tensorflow_errors():
    """TensorFlow's own errors, if it has been imported: this module must not import it."""
    tensorflow = sys.modules.get("tensorflow")
    return (tensorflow.errors.OpError,) if tensorflow else ()
