"""Tables of the paper, run: each training once, each evaluation once, each in a process of its own.

    python -m experiments.run table1 table3 --scale=shapes --seeds=3
    python -m experiments.run table5:mg111 --scale=shapes  one row
    python -m experiments.run table6 --dry_run             the commands, and what they cost;
                                                           with --calibrate also in hours, here
    python -m experiments.run table3 --shard=2/8           the second of eight jobs that share it

What is there is not run again, and what was killed goes on where it stopped, when the same command
is given again. A row that fails does not stop the others: failure.json in its folder has its last
words and run.log all of them, and experiments.report shows it. Several runners may work in the same
folder, from several machines too if its file system has locks (flock) that hold between them: none
takes what another one has, and what another one leaves unfinished is taken over.

It ends with exit code 1 where a row failed, and 130 or 143 where it was stopped.
"""

import argparse
import collections
import contextlib
import fcntl
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import tensorflow as tf

from data.files import write_json
from data.terminal import duration
from experiments import base, tables
from experiments.cost import training_runs_table
from experiments.plan import Work, plan, remaining

ROOT = pathlib.Path(__file__).parent.parent
POLL_SECONDS = 30  # At a run that another runner has, and whose weights are waited for.


class Runner:
    """Completes works, one after another, whatever becomes of each."""

    def __init__(self, works: Sequence[Work], name_below: pathlib.Path):
        self._works = {work.folder: work for work in works}
        self._failed = set()
        self._below = name_below

    def complete(self, work: Work) -> str:
        """Runs what is left of a work -> "done", "failed", or "taken" if another runner has it."""
        if work.folder in self._failed:
            return "failed"
        if not remaining(work):
            return "done"
        while (
            work.starts_from and (state := self.complete(self._works[work.starts_from])) != "done"
        ):
            if state == "failed":
                return self._fail(
                    work, [], f"{work.starts_from}, whose weights it starts from, failed."
                )
            print(
                f"{self.name(work)}: waits for {work.starts_from}, which is being run.", flush=True
            )
            time.sleep(POLL_SECONDS)
        if work.devices > max(1, devices_here()):
            return self._fail(
                work, [], f"It takes {work.devices} GPUs, and here are {devices_here()}."
            )
        with lock_folder(work.folder) as lock:
            if lock is None:
                return "taken"
            for name in remaining(work):
                code, said = execute(work.commands[name], work, self.name(work), lock)
                if code:
                    return self._fail(work, work.commands[name], said, code)
            (work.folder / "failure.json").unlink(missing_ok=True)
        return "done"

    def name(self, work: Work) -> str:
        """How a work is called: its folder, below that of all runs."""
        return str(work.folder.relative_to(self._below))

    def _fail(self, work, command, said, code=1):
        self._failed.add(work.folder)
        work.folder.mkdir(parents=True, exist_ok=True)
        failure = {"command": shlex.join(["python", *command]), "exit_code": code, "said": said}
        write_json(work.folder / "failure.json", failure)
        print(f"{self.name(work)}: failed: {said}", flush=True)
        return "failed"


@contextlib.contextmanager
def lock_folder(folder: pathlib.Path) -> Iterator[int | None]:
    """Holds a folder -> an open file, or None where another process holds it.

    The system lets go of it when the processes that have the file are gone, however they went.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".taken").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.fileno()


def devices_here() -> int:
    """The GPUs of this machine."""
    return len(tf.config.list_physical_devices("GPU"))


def execute(command: list[str], work: Work, name: str, lock: int) -> tuple[int, str]:
    """Runs `python command` -> its exit code and last words; all of them go to the work's run.log.

    Lines of progress are shown too, after the name. The process holds the lock as long as it lives.
    """
    environment = dict(os.environ)
    if work.devices > 1:
        visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if len(visible) < work.devices:
            visible = list(map(str, range(work.devices)))
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(visible[: work.devices])
    process = subprocess.Popen(
        [sys.executable, str(ROOT / command[0]), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        pass_fds=[lock],
        start_new_session=True,  # It is stopped through this process, once.
    )
    said = ""
    try:
        with (work.folder / "run.log").open("a") as log:
            log.write(f"$ {shlex.join(['python', *command])}\n")
            for line in process.stdout:
                log.write(line)
                log.flush()
                if line.strip() and not said.startswith("error:"):
                    said = line.strip()
                if " | " in line:
                    print(f"{name}: {line}", end="", flush=True)
    except BaseException as stopped:
        interrupted = isinstance(stopped, KeyboardInterrupt)
        process.send_signal(signal.SIGINT if interrupted else signal.SIGTERM)
        raise
    finally:
        process.wait()
    return process.returncode, said


def select_shard(works: Sequence[Work], shard: tuple[int, int]) -> list[Work]:
    """Works, and (k, n) -> the k-th part of n; works that follow one another stay together."""
    first = {}  # Of each work, the one that its chain begins with.
    for work in works:
        first[work.folder] = first[work.starts_from] if work.starts_from else work.folder
    chains = list(dict.fromkeys(first.values()))
    mine = set(chains[shard[0] - 1 :: shard[1]])
    return [work for work in works if first[work.folder] in mine]


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` -> (2, 8). Raises ValueError for what is no such part."""
    number, _, of = text.partition("/")
    if number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of):
        return int(number), int(of)
    raise ValueError(f"--shard={text} is no part: 2/8 is the second of eight.")


def run_all(works: Sequence[Work], runs: pathlib.Path) -> bool:
    """Completes works, and says how far it is -> whether none failed.

    What other runners have is waited for at the end, and taken over where they left it.
    """
    runner, start, states = Runner(works, runs), time.monotonic(), {}
    pending = list(works)
    while pending:
        for work in pending:
            name = f"[{len(states) + 1}/{len(works)}] {runner.name(work)}"
            print(name, flush=True)
            state = "there already" if not remaining(work) else runner.complete(work)
            if state == "taken":
                print(f"{name}: another runner has it; later.", flush=True)
                continue
            states[work.folder] = state
            taken = time.monotonic() - start
            ran = sum(each != "there already" for each in states.values())
            more = taken / ran * (len(works) - len(states)) if ran else 0
            print(
                f"{name}: {state}; {duration(taken)} so far, about {duration(more)} left",
                flush=True,
            )
        pending = [work for work in pending if work.folder not in states]
        if pending:
            time.sleep(POLL_SECONDS)
    counts = collections.Counter(states.values())
    print(", ".join(f"{number} {state}" for state, number in counts.items()))
    return "failed" not in counts


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="+", help="table3, or table3:mg121_block7")
    parser.add_argument("--scale", choices=base.SCALES, default="paper")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each: seeds 0, 1, ...")
    parser.add_argument("--shard", default="1/1", help="2/8: the second of eight jobs")
    parser.add_argument("--dry_run", action="store_true", help="print commands and cost alone")
    parser.add_argument("--calibrate", action="store_true", help="with --dry_run: hours here, too")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--data_dir", help="shards; ~/tensorflow_datasets if not given")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments.seeds < 1:
            raise ValueError(f"--seeds={arguments.seeds}: at least one training of each is needed.")
        rows = tables.find_rows(arguments.rows)
        for name, row in rows.items():
            if row.unavailable:
                print(f"{name} is left out: {row.unavailable}.")
        where = {"runs": arguments.runs, "data_dir": arguments.data_dir}
        works = [
            work
            for seed in range(arguments.seeds)
            for work in plan(rows, scale=arguments.scale, seed=seed, **where)
        ]
        works = select_shard(works, parse_shard(arguments.shard))
        if arguments.dry_run:
            dry_run(works, arguments.scale, calibrate=arguments.calibrate)
        elif not run_all(works, arguments.runs):
            sys.exit(1)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from there.")
        sys.exit(130)


def dry_run(works: Sequence[Work], scale: str, *, calibrate: bool) -> None:
    """Prints the commands that are left, and what the trainings among them cost."""
    for work in works:
        for name in remaining(work):
            print(shlex.join(["python", *work.commands[name]]))
    runs = [work.run for work in works if "eval.json" in remaining(work)]
    print()
    print(training_runs_table(runs, scale, calibrate=calibrate) if runs else "No training is left.")


if __name__ == "__main__":
    main()
