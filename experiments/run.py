"""Runs tables of the paper: each training and each evaluation once, in its own process.

    python -m experiments.run table1 table3 --scale=shapes --seeds=3
    python -m experiments.run table5:mg111 --scale=shapes  one row
    python -m experiments.run table6 --dry_run             print the commands, their cost and a job
                                                           array; with --calibrate also hours, here
    python -m experiments.run table3 --shard=2/8           the second of eight jobs that share it

Complete runs are skipped, and interrupted ones resume when the same command is given again. A row
that fails does not stop the others: failure.json in its folder has the error, run.log the whole
output, and experiments.report shows it. Several runners may share a folder, from several machines
too if its file system supports locks (flock) between them. A runner locks the run that it works on;
if it leaves it unfinished, another runner resumes it.

The exit code is 1 if a row failed, and 130 or 143 after an interrupt.
"""

import argparse
import collections
import contextlib
import fcntl
import glob
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

from data.terminal import duration, errors_in_a_line, make_parser, parse_early
from experiments import base, tables
from experiments.gpus import DEFAULT_GPU, GPUS


def define_command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = make_parser("experiments.run", __doc__)
    parser.add_argument("rows", nargs="+", help="table3, or table3:mg121_block7")
    parser.add_argument("--scale", choices=base.SCALES, default="paper")
    parser.add_argument(
        "--seeds", type=int, default=1, help="training runs per row: seeds 0, 1, ... (default: 1)"
    )
    parser.add_argument("--shard", default="1/1", help="K/N: 2/8 is the second of eight jobs")
    parser.add_argument("--dry_run", action="store_true", help="only print commands and cost")
    parser.add_argument("--calibrate", action="store_true", help="with --dry_run: also hours, here")
    parser.add_argument(
        "--gpu", choices=GPUS, default=DEFAULT_GPU, help="with --dry_run: whose hours to estimate"
    )
    parser.add_argument(
        "--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="the folder of all runs"
    )
    parser.add_argument("--data_dir", help="TFDS data directory (default: ~/tensorflow_datasets)")
    parser.add_argument(
        "--imagenet",
        help="a file with ImageNet's weights (default: keras.applications', downloaded)",
    )
    return parser


if __name__ == "__main__":
    parse_early(define_command_line())  # Before TensorFlow is imported.

import tensorflow as tf

from data.files import write_json
from experiments.cost import training_runs_table
from experiments.plan import Work, plan, remaining

ROOT = pathlib.Path(__file__).parent.parent
POLL_SECONDS = 30  # Between checks of a run that another runner has locked.


class Runner:
    """Completes works one after another; a failure does not stop the others."""

    def __init__(self, works: Sequence[Work], runs: pathlib.Path):
        self._works = {work.folder: work for work in works}
        self._failed = set()
        self._runs = runs

    def complete(self, work: Work) -> str:
        """Runs the remaining commands -> "done", "failed", or "locked" by another runner."""
        if work.folder in self._failed:
            return "failed"
        if not remaining(work):
            return "done"
        while (
            work.starts_from and (state := self.complete(self._works[work.starts_from])) != "done"
        ):
            if state == "failed":
                return self._fail(work, [], f"{work.starts_from}, whose weights it needs, failed.")
            print(f"{self.name(work)}: waiting for {work.starts_from}.", flush=True)
            time.sleep(POLL_SECONDS)
        if work.devices > max(1, num_gpus := count_gpus()):
            return self._fail(work, [], f"needs {work.devices} GPUs; found {num_gpus}")
        with lock_folder(work.folder) as lock:
            if lock is None:
                return "locked"
            for name in remaining(work):
                code, message = execute(work.commands[name], work, self.name(work), lock)
                if code:
                    return self._fail(work, work.commands[name], message, code)
            (work.folder / "failure.json").unlink(missing_ok=True)
        return "done"

    def name(self, work: Work) -> str:
        """A work's folder, below the folder of all runs."""
        return str(work.folder.relative_to(self._runs))

    def _fail(self, work, command, message, code=1):
        self._failed.add(work.folder)
        work.folder.mkdir(parents=True, exist_ok=True)
        failure = {"command": shlex.join(["python", *command]), "exit_code": code, "said": message}
        write_json(work.folder / "failure.json", failure)
        print(f"{self.name(work)}: failed: {message}", flush=True)
        return "failed"


@contextlib.contextmanager
def lock_folder(folder: pathlib.Path) -> Iterator[int | None]:
    """Locks a folder -> the lock's file descriptor, or None if another process has locked it.

    The system releases the lock when all processes with that descriptor have ended, in any way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".taken").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.fileno()


def count_gpus() -> int:
    """The number of GPUs of this machine."""
    return len(tf.config.list_physical_devices("GPU"))


def execute(command: list[str], work: Work, name: str, lock: int) -> tuple[int, str]:
    """Runs one command of a work in its own process.

    Args:
      command: what follows `python`.
      work: its output is appended to run.log in the work's folder.
      name: printed before each line of progress.
      lock: file descriptor of the lock, which the process holds as long as it lives.

    Returns:
      The exit code, and the first error or else the last line of the output.
    """
    process = subprocess.Popen(
        [sys.executable, str(ROOT / command[0]), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment_of(work),
        pass_fds=[lock],
        start_new_session=True,  # Ctrl-C reaches it through this process, once.
    )
    message = ""
    try:
        with (work.folder / "run.log").open("a") as log:
            log.write(f"$ {shlex.join(['python', *command])}\n")
            for line in process.stdout:
                log.write(line)
                log.flush()
                if line.strip() and not message.startswith("error:"):
                    message = line.strip()
                if " | " in line:
                    print(f"{name}: {line}", end="", flush=True)
    except BaseException as stopped:
        interrupted = isinstance(stopped, KeyboardInterrupt)
        process.send_signal(signal.SIGINT if interrupted else signal.SIGTERM)
        raise
    finally:
        process.wait()
    return process.returncode, message


def environment_of(work: Work) -> dict[str, str]:
    """A work -> its processes' environment, in which as many GPUs as it needs are visible."""
    environment = dict(os.environ)
    if work.devices > 1:
        visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if len(visible) < work.devices:
            visible = list(map(str, range(work.devices)))
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(visible[: work.devices])
    return environment


def select_shard(works: Sequence[Work], shard: tuple[int, int]) -> list[Work]:
    """Works and (k, n) -> the k-th of n parts; a work stays with the one that it starts from."""
    mine = {w.folder for chain in chains_of(works)[shard[0] - 1 :: shard[1]] for w in chain}
    return [work for work in works if work.folder in mine]


def chains_of(works: Sequence[Work]) -> list[list[Work]]:
    """Works -> those that start from other weights than a work's, each with those that follow."""
    chains, chain_of = [], {}  # The latter by the folder of each work.
    for work in works:
        if work.starts_from:
            chain = chain_of[work.starts_from]
        else:
            chain = []
            chains.append(chain)
        chain_of[work.folder] = chain
        chain.append(work)
    return chains


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` -> (2, 8). Raises ValueError for anything else."""
    number, _, of = text.partition("/")
    if number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of):
        return int(number), int(of)
    raise ValueError(f"--shard must be K/N, e.g. 2/8 for the second of eight; got {text}.")


def run_all(works: Sequence[Work], runs: pathlib.Path) -> bool:
    """Completes works and prints the progress -> whether none failed.

    Works that other runners have locked are retried at the end, until those have released them.
    """
    runner, start, states = Runner(works, runs), time.monotonic(), {}
    pending = list(works)
    while pending:
        for work in pending:
            name = f"[{len(states) + 1}/{len(works)}] {runner.name(work)}"
            print(name, flush=True)
            state = "already complete" if not remaining(work) else runner.complete(work)
            if state == "locked":
                print(f"{name}: locked by another runner; retrying later.", flush=True)
                continue
            states[work.folder] = state
            elapsed = time.monotonic() - start
            num_run = sum(each != "already complete" for each in states.values())
            left = elapsed / num_run * _count_incomplete(works, states) if num_run else 0
            print(
                f"{name}: {state}; {duration(elapsed)} so far, about {duration(left)} left",
                flush=True,
            )
        pending = [work for work in pending if work.folder not in states]
        if pending:
            time.sleep(POLL_SECONDS)
    counts = collections.Counter(states.values())
    print(", ".join(f"{number} {state}" for state, number in counts.items()))
    return "failed" not in counts


def _count_incomplete(works, states):
    """Works, and the states of those dealt with -> how many of the others are not complete."""
    return sum(bool(remaining(work)) for work in works if work.folder not in states)


def dry_run(works: Sequence[Work], rows: Iterable[str], arguments: argparse.Namespace) -> None:
    """Prints the remaining commands, the cost of the training runs among them, and a job array."""
    for work in works:
        for name in remaining(work):
            print(shlex.join(["python", *work.commands[name]]))
    seeds = collections.Counter(work.run for work in works if "eval.json" in remaining(work))
    if not seeds:
        print("\nAll training runs are complete.")
        return
    tables_of = tables.training_runs(rows, arguments.scale)
    runs = {run: table for run, table in tables_of.items() if run in seeds}
    how = {"seeds": seeds, "gpu": arguments.gpu, "calibrate": arguments.calibrate}
    print(f"\n{training_runs_table(runs, arguments.scale, **how)}")
    if arguments.shard == "1/1" and len(works) > 1:
        for gpus, text in job_arrays(works, arguments).items():
            each = "1 GPU" if gpus == 1 else f"{gpus} GPUs"
            print(f"\nA job array for Slurm, {each} a job:\n\n{text}")


def job_arrays(works: Sequence[Work], arguments: argparse.Namespace) -> dict[int, str]:
    """Works and the command line -> files for `sbatch`, by the GPUs that each of their jobs needs.

    A chain of runs is a job, and the k-th of n chains is the shard k/n.
    """
    chains = chains_of(works)
    parser, command = define_command_line(), ["python", "-m", "experiments.run", *arguments.rows]
    for name in ("scale", "seeds", "runs", "data_dir", "imagenet"):
        if (value := getattr(arguments, name)) != parser.get_default(name):
            command.append(f"--{name}={value}")
    jobs = {}
    for number, chain in enumerate(chains, start=1):
        jobs.setdefault(max(work.devices for work in chain), []).append(number)
    return {
        gpus: f"#!/bin/bash\n#SBATCH --array={ranges_text(numbers)} --gpus={gpus} --requeue\n"
        f"{shlex.join(command)} --shard=$SLURM_ARRAY_TASK_ID/{len(chains)}"
        for gpus, numbers in sorted(jobs.items())
    }


def ranges_text(numbers: Sequence[int]) -> str:
    """Numbers in ascending order -> `1-3,5`, as Slurm takes them."""
    ranges = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def main() -> None:
    arguments = define_command_line().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with errors_in_a_line():
        if arguments.seeds < 1:
            raise ValueError(f"--seeds must be at least 1; got {arguments.seeds}.")
        if arguments.imagenet and not glob.glob(f"{glob.escape(arguments.imagenet)}*"):
            raise FileNotFoundError(f"--imagenet={arguments.imagenet}: no such file.")
        rows = tables.find_rows(arguments.rows, arguments.scale)
        for name, row in rows.items():
            if row.unavailable:
                print(f"{name} is skipped: {row.unavailable}.")
        if all(row.unavailable for row in rows.values()):
            raise ValueError(f"None of these rows is available at the scale {arguments.scale}.")
        where = {
            "runs": arguments.runs,
            "data_dir": arguments.data_dir,
            "imagenet": arguments.imagenet,
        }
        works = [
            work
            for seed in range(arguments.seeds)
            for work in plan(rows, scale=arguments.scale, seed=seed, **where)
        ]
        works = select_shard(works, parse_shard(arguments.shard))
        if arguments.dry_run:
            dry_run(works, rows, arguments)
            return
        try:
            if not run_all(works, arguments.runs):
                sys.exit(1)
        except KeyboardInterrupt:
            print("\nInterrupted. Run the same command again to resume.")
            sys.exit(130)


if __name__ == "__main__":
    main()
