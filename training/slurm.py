"""The tasks of a Slurm step, as TensorFlow's TF_CONFIG.

TensorFlow has a SlurmClusterResolver. It needs nvidia-smi, fails where there are no GPUs, assigns
CUDA_VISIBLE_DEVICES anew, and sorts the nodes by name: with n2 and n10, each task would take the
address of the other.
"""

import json
import re
from collections.abc import Mapping

# Ports for the workers of a job, below those that Linux gives to clients (32768 and above). Jobs
# that share a node have others.
FIRST_PORT = 10000
PORTS_PER_JOB = 16
NUM_PORTS = 20000


def is_step_of_several_tasks(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process and others with it."""
    return int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def tf_config(environment: Mapping[str, str]) -> str:
    """The environment of a task that srun started -> TF_CONFIG, with one worker per task.

    Raises ValueError where srun did not start this process, or not in the order of the nodes.
    """
    if "SLURM_STEP_NODELIST" not in environment:
        raise ValueError("multi_worker needs TF_CONFIG or a Slurm job's srun; found neither.")
    nodes = expand_nodes(environment["SLURM_STEP_NODELIST"])
    counts = expand_counts(environment["SLURM_STEP_TASKS_PER_NODE"])
    hosts = [node for node, count in zip(nodes, counts, strict=True) for _ in range(count)]
    rank = int(environment["SLURM_PROCID"])
    if hosts[rank] != environment["SLURMD_NODENAME"]:
        raise ValueError(
            f"Task {rank} was expected on node {hosts[rank]} and runs on "
            f"{environment['SLURMD_NODENAME']}. Start the tasks in the order of the nodes: srun "
            "--distribution=block."
        )
    first = FIRST_PORT + int(environment["SLURM_JOB_ID"]) * PORTS_PER_JOB % NUM_PORTS
    workers = [f"{host}:{first + i}" for i, host in enumerate(hosts)]
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}})


def expand_nodes(nodes: str) -> list[str]:
    """`n[1-2,10],m5` -> n1, n2, n10, m5: Slurm's list of nodes, in its order."""
    parts = re.findall(r"(?:[^,\[]|\[[^\]]*\])+", nodes)  # Split at commas outside of brackets.
    return [node for part in parts for node in _expand_node(part)]


def _expand_node(node):
    match = re.fullmatch(r"([^\[]*)\[([^\]]*)\](.*)", node)
    if not match:
        return [node]
    numbers = []
    for numbers_from_to in match[2].split(","):
        first, _, last = numbers_from_to.partition("-")
        numbers += [
            f"{number:0{len(first)}}" for number in range(int(first), int(last or first) + 1)
        ]
    return [f"{match[1]}{number}{rest}" for number in numbers for rest in _expand_node(match[3])]


def expand_counts(counts: str) -> list[int]:
    """`2(x3),1` -> 2, 2, 2, 1: the tasks of each node."""
    return [
        int(count)
        for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", counts)
        for _ in range(int(times or 1))
    ]
