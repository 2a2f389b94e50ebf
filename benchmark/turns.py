"""Candidates that take turns, each in a process of its own: seconds, peak memory, other load.

It imports neither TensorFlow nor PyTorch: each process has only what its own candidate needs.
"""

import contextlib
import itertools
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from data.terminal import track

ROOT = pathlib.Path(__file__).parent.parent
ROUNDS = 5
SECONDS_PER_TURN = 3  # At least, and one step: a step may take 20 ms.
MAX_SPREAD = 0.1
TRIES = 3  # To get all spreads under it.
MAX_OTHER_LOAD = 0.05


class Job(NamedTuple):
    """What a process is to do. The module, run with the arguments as JSON, calls serve."""

    module: str
    arguments: Mapping[str, Any]
    environment: Mapping[str, str] = {}


class Turns(NamedTuple):
    """What was measured of a candidate."""

    seconds: list[float]  # Per step, in each of its turns.
    peak_mib: float

    @property
    def spread(self) -> float:
        """The distance of the turns' quartiles, relative to their median."""
        first, median, third = statistics.quantiles(self.seconds, method="inclusive")
        return (third - first) / median


def serve(compute: Callable[[], object]) -> None:
    """Computes for a turn at each line of stdin, and prints the seconds per step.

    Prints a line when it has warmed up, and this process's peak memory in MiB at the end of stdin.
    """
    for _ in range(2):  # They compile.
        compute()
    print("ready", flush=True)
    for _ in sys.stdin:
        start, steps, seconds = time.perf_counter(), 0, 0.0
        while seconds < SECONDS_PER_TURN:
            compute()
            steps, seconds = steps + 1, time.perf_counter() - start
        print(seconds / steps, flush=True)
    print(peak_mebibytes(), flush=True)


def peak_mebibytes() -> float:
    """The peak of this process's memory, in MiB."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # On Linux getrusage may return the peak of the parent process.
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # In bytes, on macOS.


def measure(jobs: Mapping[str, Job]) -> tuple[dict[str, Turns], float | None]:
    """Jobs by candidate -> what was measured of each, and the share of CPU time of other load.

    The share is None where the system does not tell. Exits where a candidate fails.
    """
    with started(jobs) as processes:
        kept, load = take_steady_turns(processes)
        memory = {}
        for name, process in processes.items():
            process.stdin.close()
            memory[name] = float(read_line(process, name))
    return {name: turns._replace(peak_mib=memory[name]) for name, turns in kept.items()}, load


@contextlib.contextmanager
def started(jobs: Mapping[str, Job]) -> Iterator[dict[str, subprocess.Popen]]:
    """Jobs -> their processes, warmed up one at a time: compiling takes all cores."""
    processes = {}
    try:
        for name, job in track(jobs.items(), "ready", len(jobs)):
            processes[name] = start(job)
            read_line(processes[name], name)
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def start(job: Job) -> subprocess.Popen:
    """A job -> its process."""
    return subprocess.Popen(
        [sys.executable, "-m", job.module, json.dumps(job.arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **job.environment},
    )


def read_line(process: subprocess.Popen, name: str) -> str:
    """The next line of a candidate's stdout. Exits where the process ends instead."""
    line = process.stdout.readline()
    if not line:
        sys.exit(f"error: {name} failed; see above.")
    return line


def take_steady_turns(
    processes: Mapping[str, subprocess.Popen],
) -> tuple[dict[str, Turns], float | None]:
    """take_turns, up to TRIES times while a candidate's spread is over MAX_SPREAD.

    It returns the one whose widest spread is the smallest.
    """

    def widest(taken):
        return max(turns.spread for turns in taken[0].values())

    tries = []
    for _ in range(TRIES):
        tries.append(take_turns(processes))
        if widest(tries[-1]) <= MAX_SPREAD:
            break
    return min(tries, key=widest)


def take_turns(processes: Mapping[str, subprocess.Popen]) -> tuple[dict[str, Turns], float | None]:
    """Processes -> ROUNDS turns of each, and the share of CPU time of other load."""
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    before = cpu_seconds(processes.values())
    start_time = time.monotonic()
    turns = itertools.product(range(ROUNDS), processes)
    for _, name in track(turns, "turn", ROUNDS * len(processes)):
        print("go", file=processes[name].stdin, flush=True)
        seconds[name].append(float(read_line(processes[name], name)))
    after = cpu_seconds(processes.values())
    load = None
    if before is not None and after is not None:
        available = (time.monotonic() - start_time) * os.cpu_count()
        load = max(0.0, (after - before) / available)
    return {name: Turns(values, 0.0) for name, values in seconds.items()}, load


def cpu_seconds(processes: Sequence[subprocess.Popen]) -> float | None:
    """CPU time that everything but these processes took since the start, stolen time included."""
    file = pathlib.Path("/proc/stat")
    if not file.exists():
        return None
    user, nice, system, _idle, _wait, irq, softirq, stolen = map(
        int, file.read_text().splitlines()[0].split()[1:9]
    )
    ours = 0
    for process in processes:
        # After the command's name, which may contain spaces, come the third and later fields.
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ours += int(fields[11]) + int(fields[12])
    busy = user + nice + system + irq + softirq + stolen
    return (busy - ours) / os.sysconf("SC_CLK_TCK")
