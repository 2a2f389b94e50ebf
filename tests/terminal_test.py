"""What a person sees, with and without a terminal."""

import sys

import pytest

from data import terminal
from data.terminal import (
    Progress,
    duration,
    errors_in_a_line,
    interval_text,
    percent,
    signed_percent,
    table,
    track,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until the test moves it: clock[0] is the time in seconds."""
    now = [1000.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    "seconds, said", [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3600, "1:00:00")]
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_without_a_terminal_progress_is_plain_lines_ten_seconds_apart(clock, capsys):
    steps = Progress("step", 40)
    for done in range(11, 41):
        clock[0] += 1
        if steps.due(done):
            steps.show(done, "loss 1.5")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "step 21/40 | loss 1.5 | 0:19 left",
        "step 31/40 | loss 1.5 | 0:09 left",
        "step 40/40 | loss 1.5 | 0:29 total",
    ]


def test_in_a_terminal_one_line_is_overwritten(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    items = []
    for item in track("abc", "evaluating", 3):
        clock[0] += 1
        items.append(item)
    out = capsys.readouterr().out
    assert items == ["a", "b", "c"]
    assert out.count("\r") == 2 and out.count("\n") == 1
    assert out.endswith("evaluating 3/3 | 0:02 total\x1b[K\n")


def test_tables_are_aligned():
    assert table([["class", "IoU"], ["a", "1.00"], ["long one", "55.00"]]).splitlines() == [
        "class       IoU",
        "a          1.00",
        "long one  55.00",
    ]


def test_fractions_are_printed_in_percent():
    assert [percent(x) for x in (0.7224, None, float("nan"))] == ["72.24", "-", "-"]
    assert [signed_percent(x) for x in (0.0031, -0.5, None)] == ["+0.31", "-50.00", "-"]
    assert interval_text([0.69, 0.737]) == "69.00 to 73.70"
    assert interval_text([-0.0031, 0.012], signed=True) == "-0.31 to +1.20"
    assert interval_text(None) == interval_text([float("nan"), 1.0]) == "-"


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError])
def test_what_a_user_can_fix_is_one_line(error):
    with pytest.raises(SystemExit, match="^error: no such row$"), errors_in_a_line():
        raise error("no such row")


def test_an_interrupt_and_a_bug_are_told_apart(capsys):
    with pytest.raises(SystemExit) as stopped, errors_in_a_line():
        raise KeyboardInterrupt
    assert stopped.value.code == 130 and capsys.readouterr().err == "\nInterrupted.\n"
    with pytest.raises(ZeroDivisionError), errors_in_a_line():
        raise ZeroDivisionError
