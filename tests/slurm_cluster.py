"""A Slurm cluster of several nodes on one machine, for as long as a command runs.

    python -m tests.slurm_cluster srun --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 hostname

It needs Debian's packages slurm-wlm and munge, and no system service, cgroup or network. The nodes
are 127.0.0.1, 127.0.0.2 and so on: addresses of this machine, so that tasks reach each other by the
names of their nodes. Each claims more processors than there are, and 8 GPUs that do not exist.
"""

import argparse
import contextlib
import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

SECONDS_TO_START = 60
CONF = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A job that is requeued waits until its credentials have expired: two minutes by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=10
MinJobAge=3600
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname=localhost Port={port} CPUs=256 Gres=gpu:8 State=UNKNOWN\n"
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "scontrol", "squeue")


def missing_programs() -> list[str]:
    """The programs of Slurm and munge that this machine lacks."""
    return [program for program in PROGRAMS if not _path(program)]


@contextlib.contextmanager
def slurm_cluster(num_nodes: int = 2) -> Iterator[dict[str, str]]:
    """Starts a cluster -> the environment in which Slurm's commands use it; stops it at the end.

    Raises RuntimeError, with the logs, where its nodes are not ready within a minute.
    """
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm")))
        nodes = [f"127.0.0.{i + 1}" for i in range(num_nodes)]
        _write_configuration(folder, nodes)
        conf = str(folder / "slurm.conf")
        key, munge = folder / "munge.key", folder / "munge.socket"
        daemons = [
            # --force: the folder of a test may be open to others.
            [
                *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}"),
                *(f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")),
            ],
            ["slurmctld", "-D", "-c", "-f", conf],
            *(["slurmd", "-D", "-f", conf, "-N", node] for node in nodes),
        ]
        for command in daemons:
            stack.enter_context(_daemon(command))
            if command[0] == "munged":
                _wait_until(munge.exists, folder)
        environment = {**os.environ, "SLURM_CONF": conf}
        _wait_until(lambda: _idle_nodes(environment) == num_nodes, folder)
        stack.callback(_end_jobs, environment)
        yield environment


def _write_configuration(folder, nodes):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(len(nodes) + 1)]
    port, *ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    text = CONF.format(folder=folder, user=getpass.getuser(), port=port)
    for node, port in zip(nodes, ports, strict=True):
        text += NODE.format(name=node, port=port)
        (folder / node).mkdir()
    (folder / "slurm.conf").write_text(text)
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    for i in range(8):
        (folder / f"gpu{i}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-7]\n")
    # By default slurmd asks systemd for a cgroup.
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")


@contextlib.contextmanager
def _daemon(command):
    process = subprocess.Popen(
        [_path(command[0]), *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C ends the command first.
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _path(program):
    """Debian keeps daemons in /usr/sbin, which is not in every user's PATH."""
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")


def _idle_nodes(environment):
    command = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N %t"]
    out = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
    return sum(line.endswith(" idle") for line in out.splitlines())


def _wait_until(condition, folder):
    deadline = time.monotonic() + SECONDS_TO_START
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(log.read_text() for log in sorted(folder.glob("*.log")))
            raise RuntimeError(f"The Slurm cluster in {folder} did not start:\n{logs}")
        time.sleep(0.2)


def _end_jobs(environment):
    """Jobs outlive the daemons."""

    def jobs():
        command = ["squeue", "--noheader", "--format=%A"]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True
        ).stdout.split()

    deadline = time.monotonic() + SECONDS_TO_START
    while (left := jobs()) and time.monotonic() < deadline:
        subprocess.run(["scancel", "--signal=KILL", "--full", *left], env=environment)
        subprocess.run(["scancel", *left], env=environment)
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.slurm_cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", help="run while the cluster is up, e.g. bash")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the command")
    given = parser.parse_args()
    if missing := missing_programs():
        sys.exit(f"error: not found: {', '.join(missing)}. Install slurm-wlm and munge.")
    with slurm_cluster() as environment:
        try:
            code = subprocess.run([given.command, *given.arguments], env=environment).returncode
        except OSError as error:
            sys.exit(f"error: {given.command}: {error.strerror}")
    sys.exit(code)


if __name__ == "__main__":
    main()
