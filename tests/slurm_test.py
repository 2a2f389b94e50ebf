"""Slurm's tasks as workers; and real jobs, in a cluster on this machine if it has Slurm."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.programs_test import SMALL
from tests.slurm_cluster import missing_programs, slurm_cluster
from tests.strategy_test import CONFIG, PROGRAM, STEPS, finish, same, start, weights_of
from training import slurm

ENVIRONMENT = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "2",
    "SLURM_STEP_NODELIST": "n[2,10]",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURMD_NODENAME": "n10",
}
SRUN = "srun --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 python train.py"
SECONDS = 400  # For any wait; a job that was requeued waits up to a minute.


def test_tasks_are_workers_in_the_order_of_the_nodes():
    """n2 before n10, where the sorted names are the other way round."""
    config = json.loads(slurm.tf_config(ENVIRONMENT))
    assert config == {
        "cluster": {"worker": ["n2:10112", "n2:10113", "n10:10114"]},
        "task": {"type": "worker", "index": 2},
    }


def test_jobs_have_ports_of_their_own():
    def workers(job):
        config = json.loads(slurm.tf_config({**ENVIRONMENT, "SLURM_JOB_ID": str(job)}))
        return set(config["cluster"]["worker"])

    several = [workers(job) for job in (1, 2, 3, 1250, 123456789)]
    assert len(set.union(*several)) == 3 * len(several)
    ports = [int(worker.rpartition(":")[2]) for worker in set.union(*several)]
    assert all(1024 < port < 32768 for port in ports)


def test_nodes_and_counts_are_read_as_slurm_writes_them():
    assert slurm.expand_nodes("n[08-10,12],m5,r[1-2]s[1-2]x") == (
        ["n08", "n09", "n10", "n12", "m5", "r1s1x", "r1s2x", "r2s1x", "r2s2x"]
    )
    assert slurm.expand_counts("2(x3),1") == [2, 2, 2, 1]


def test_tasks_that_srun_placed_otherwise_are_refused():
    """Each would wait at the address of another."""
    with pytest.raises(ValueError, match="Task 2 was expected on node n10 .* --distribution=block"):
        slurm.tf_config({**ENVIRONMENT, "SLURMD_NODENAME": "n2"})


def docs_scripts() -> list[str]:
    """The files for sbatch in docs/training.md: a job of several nodes, and an array."""
    text = (ROOT / "docs" / "training.md").read_text()
    job, array = re.findall(r"^```text\n(#!/bin/bash\n.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [job, array]


class Jobs:
    """Slurm's commands, and `python` as the scripts of the documentation name it."""

    def __init__(self, environment: dict[str, str], folder: pathlib.Path, data_dir: pathlib.Path):
        (folder / "bin").mkdir()
        self._environment = {**environment, "PATH": f"{folder}/bin:{environment['PATH']}"}
        self._folder, self._data_dir = folder, data_dir

    def python(self, run: pathlib.Path) -> None:
        """Makes `python train.py --config=...` the small run of strategy_test, in a folder."""
        (self._folder / "program.py").write_text(PROGRAM)
        (self._folder / "cascade.py").write_text(CONFIG)
        flags = f"--config={self._folder}/cascade.py --workdir={run} --data_dir={self._data_dir}"
        command = f'exec {sys.executable} {self._folder}/program.py 1 "$@" {flags}'
        self._program(f"shift\necho $$ > {self._folder}/pid$SLURM_PROCID\n{command}")

    def kill(self, task: int) -> None:
        """Kills a task of the job that started last, without Slurm."""
        os.kill(int((self._folder / f"pid{task}").read_text()), signal.SIGKILL)

    def python_of_array(self, runs: pathlib.Path) -> None:
        """Makes `python -m experiments.run ...` run small rows of the scale shapes."""
        (self._folder / "train.py").write_text(
            "import os, sys\n"
            f"command = [sys.executable, {str(ROOT / 'train.py')!r}, *sys.argv[1:], *{SMALL!r}]\n"
            "os.execv(sys.executable, command)\n"
        )
        (self._folder / "run.py").write_text(
            "import pathlib\nfrom experiments import run\n"
            f"run.ROOT = pathlib.Path({str(self._folder)!r})\nrun.main()\n"
        )
        flags = f"--scale=shapes --runs={runs} --data_dir={self._data_dir}"
        self._program(f'shift 2\nexec {sys.executable} {self._folder}/run.py "$@" {flags}')

    def _program(self, script):
        file = self._folder / "bin" / "python"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def run(self, *command: str) -> str:
        """Runs one of Slurm's commands from the repository's root -> what it printed."""
        result = subprocess.run(
            command,
            cwd=ROOT,
            env={**self._environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def submit(self, script: str, run: pathlib.Path, *options: str) -> str:
        """Gives a file to sbatch -> the job's number. Its output is appended to RUN.log."""
        file = self._folder / "job.sbatch"
        file.write_text(script)
        return self.run("sbatch", "--parsable", f"--output={run}.log", *options, str(file)).strip()

    def state(self, job: str) -> str:
        """A job -> RUNNING, PENDING, COMPLETED, FAILED, CANCELLED, ..."""
        return re.search(r"JobState=(\w+)", self.run("scontrol", "show", "job", job))[1]

    def wait(self, job: str, *states: str) -> None:
        """Waits until a job has ended, in one of these states."""
        wait_for(lambda: self.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), job)
        assert self.state(job) in states


def wait_for(condition: Callable[[], bool], what: object) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    if missing := missing_programs():
        pytest.skip(f"Slurm and munge are not installed: {', '.join(missing)}.")
    with slurm_cluster() as environment:
        yield environment


@pytest.fixture
def jobs(cluster, shapes_dir, tmp_path) -> Jobs:
    return Jobs(cluster, tmp_path, shapes_dir)


@pytest.fixture(scope="module")
def together(cluster, shapes_dir, tmp_path_factory) -> tuple[pathlib.Path, str]:
    """A run of two tasks, started by the line of the documentation, and what it printed."""
    folder = tmp_path_factory.mktemp("slurm")
    jobs = Jobs(cluster, folder, shapes_dir)
    jobs.python(folder / "run")
    return folder / "run", jobs.run(*SRUN.split(), "--config=experiments/base.py")


@pytest.mark.slow
def test_the_srun_line_of_the_documentation_takes_the_steps_of_one_device(
    together, shapes_dir, tmp_path
):
    for file in ("README.md", "docs/training.md"):
        assert f"{SRUN} --config=experiments/base.py" in (ROOT / file).read_text()
    run, out = together
    assert out.count("trained and evaluated in") == 2 and out.count("of mIoU over images") == 1
    finish(start(tmp_path / "alone", shapes_dir))
    same(run, tmp_path / "alone")


# What ends a job in the middle, the state that it is in then, and whether Slurm starts it again.
ENDS = {
    "scancel --signal=TERM": (lambda jobs, job: jobs.run("scancel", "--signal=TERM", job), None),
    "scontrol requeue": (lambda jobs, job: jobs.run("scontrol", "requeue", job), None),
    "scancel": (lambda jobs, job: jobs.run("scancel", job), "CANCELLED"),
    "a killed task": (lambda jobs, job: jobs.kill(1), "FAILED"),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", ENDS)
def test_a_job_that_was_ended_goes_on_to_the_same_bits(how, together, jobs, tmp_path):
    """After SIGTERM the script has itself requeued; otherwise it is given to sbatch again."""
    end, state = ENDS[how]
    run, (script, _) = tmp_path / "run", docs_scripts()
    jobs.python(run)
    job = jobs.submit(script, run)
    wait_for((run / "checkpoints" / "checkpoint").exists, job)  # Of half of the steps.
    end(jobs, job)
    if state:
        jobs.wait(job, state)
        assert "trained and evaluated in" not in pathlib.Path(f"{run}.log").read_text()
        again = jobs.submit(script, run)
        jobs.wait(again, "COMPLETED")
        assert jobs.state(job) == state  # Its script has not had it requeued.
    else:
        jobs.wait(job, "COMPLETED")
    out = pathlib.Path(f"{run}.log").read_text()
    print(out)
    step = int(re.search(r"Resuming .* from step (\d+)\.", out)[1])
    assert STEPS // 2 <= step < STEPS and out.count("trained and evaluated in") == 2
    assert ("Interrupted; saved" in out) == (how != "a killed task")
    ours, theirs = weights_of(together[0]), weights_of(run)
    assert ours.keys() == theirs.keys() and len(ours) > 50
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.mark.slow
def test_an_array_shares_the_rows_of_a_table(jobs, tmp_path):
    """Two of its six jobs run a row each."""
    runs, (_, script) = tmp_path / "runs", docs_scripts()
    jobs.python_of_array(runs)
    array = jobs.submit(script, runs, "--array=1-2")
    for i in (1, 2):
        jobs.wait(f"{array}_{i}", "COMPLETED")
    done = {str(file.parent.relative_to(runs)) for file in runs.rglob("eval.json")}
    assert done == {"shapes/table1/os8", "shapes/table2/resnet50_block7"}
