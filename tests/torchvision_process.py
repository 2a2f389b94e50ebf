"""torchvision in a process of its own.

With PyTorch's default wheel for Linux, which brings triton, importing it after TensorFlow is a
segmentation fault (TensorFlow 2.21, PyTorch 2.14).
"""

import functools
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@functools.cache
def why_missing() -> str:
    """Why torchvision cannot be imported, or "": it may not fit the PyTorch that is there."""
    done = _run("import torchvision")
    if not done.returncode:
        return ""
    return (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]


def ask_torchvision(code: str, *arguments: str) -> str:
    """Code that may import torchvision, and its sys.argv -> what it prints; else the test skips."""
    if reason := why_missing():
        pytest.skip(f"torchvision cannot be asked: {reason}")
    done = _run(code, *arguments)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def _run(code, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
