"""Files that are damaged at random: read or named; no crash, no hang, no flood of memory."""

import json
import os
import subprocess
import sys

from tests.conftest import ROOT

NUMBER = 2000


def test_damaged_files_are_read_or_named_within_the_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.damage_files", tmp_path, str(NUMBER)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    for name, outcomes in counts.items():
        assert outcomes.keys() <= {"read", "named"}, (name, outcomes)
        assert outcomes["named"] > NUMBER / 20 and outcomes["read"] > NUMBER / 100, (name, outcomes)
