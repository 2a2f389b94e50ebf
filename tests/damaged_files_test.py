"""Files that are damaged at random: read or named; no crash, no hang, no flood of memory."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("number", [400, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_named_within_the_memory(number, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.damage_files", tmp_path, str(number)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    for name, outcomes in counts.items():
        assert outcomes.keys() <= {"read", "named"}, (name, outcomes)
        assert outcomes["named"] > number / 20 and outcomes["read"] > number / 100, (name, outcomes)
