"""A run that is killed, without a word of warning, ends as one that was not."""

import csv
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.train_test import checkpoint_of

KILLS = 5
COMMAND = [
    sys.executable,
    ROOT / "train.py",
    "--config.steps=120",
    "--config.eval_every=6",  # After a checkpoint: many are written, and much is cut off.
    "--config.train_data.batch_size=4",
    "--config.train_data.crop_size=33",
]


def start(run, shapes_dir):
    command = [*COMMAND, f"--workdir={run}", f"--data_dir={shapes_dir}"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out


def newest_change(run):
    return max((path.stat().st_mtime_ns for path in run.glob("checkpoints/*")), default=0)


def rows_of(file):
    with file.open() as opened:
        return [
            {name: value for name, value in row.items() if name != "images_per_second"}
            for row in csv.DictReader(opened)
        ]


@pytest.mark.slow
def test_five_kills_at_random_moments_change_no_bit(shapes_dir, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, shapes_dir))
    for _ in range(KILLS):
        before, process = newest_change(killed), start(killed, shapes_dir)
        while newest_change(killed) == before and process.poll() is None:
            time.sleep(0.01)
        wait = random.uniform(0, 2)  # Within the steps, an evaluation or a checkpoint.
        print(f"killed {wait:.3f} s after a checkpoint")
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "It ended before it was killed."
    finish(start(killed, shapes_dir))
    ours, theirs = checkpoint_of(whole), checkpoint_of(killed)
    assert ours.keys() == theirs.keys() and int(ours["step/.ATTRIBUTES/VARIABLE_VALUE"]) == 120
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert rows_of(whole / "evaluations.csv") == rows_of(killed / "evaluations.csv")
    assert (whole / "best.json").read_text() == (killed / "best.json").read_text()
    steps = [[row["step"] for row in rows_of(run / "log.csv")] for run in (whole, killed)]
    assert steps[0] == steps[1]
