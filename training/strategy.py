"""Where a run computes: on one device, on several, or on several machines."""

import json
import os
from typing import Any

import tensorflow as tf

from data.terminal import first_line
from training import slurm


def make_strategy(name: str = "auto", tpu: str | None = None) -> tf.distribute.Strategy:
    """The name of a strategy, as --strategy of train.py has it -> that strategy.

    To be called before any other use of TensorFlow. auto: the TPU if one is named; else the
    machines of TF_CONFIG or of a Slurm job if there are several; else all GPUs if there are
    several; else one device. Raises ValueError where the strategy is not available.
    """
    if tpu and name not in ("auto", "tpu"):
        raise ValueError(f"--tpu is for --strategy=tpu, not {name}.")
    if name == "auto":
        name = "tpu" if tpu else _detect()
    if name == "tpu":
        return _tpu_strategy(tpu)
    if name == "multi_worker":
        return _multi_worker_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()  # TensorFlow's own: the first GPU, or the CPU.


def _detect():
    if "TF_CONFIG" in os.environ or slurm.is_step_of_several_tasks(os.environ):
        return "multi_worker"
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return "mirrored"
    return "one_device"


def _multi_worker_strategy():
    """Every machine runs the same command; TF_CONFIG or Slurm names the others."""
    if "TF_CONFIG" not in os.environ:
        os.environ["TF_CONFIG"] = slurm.tf_config(os.environ)
    try:
        json.loads(os.environ["TF_CONFIG"])
    except json.JSONDecodeError as error:
        raise ValueError(f"TF_CONFIG is not valid JSON: {error}") from error
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu_strategy(tpu):
    """tpu: a name or address, or `local` for the TPU of this machine."""
    if not tpu:
        raise ValueError("--strategy=tpu needs --tpu=NAME, or --tpu=local on the TPU VM itself.")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu)
        if tpu != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, OSError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            f"Cannot connect to TPU {tpu!r}: {first_line(error)} Check that "
            "requirements-tpu.txt is installed and that this is the TPU VM."
        ) from error


def describe_devices(strategy: tf.distribute.Strategy) -> str:
    """A strategy -> the devices and replicas that it uses, e.g. `8 GPUs (8 replicas)`."""
    kinds = {device.device_type for device in tf.config.list_logical_devices()}
    kind = next(kind for kind in ("TPU", "GPU", "CPU") if kind in kinds)
    replicas = strategy.num_replicas_in_sync  # Each has one device.
    if replicas == 1:
        return f"1 {kind} (1 replica)"
    return f"{replicas} {kind}s ({replicas} replicas)"


def first_replica(results: Any, strategy: tf.distribute.Strategy) -> Any:
    """What strategy.run returned, the same on every replica -> the values of one of them."""
    return tf.nest.map_structure(
        lambda result: strategy.experimental_local_results(result)[0], results
    )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes the run's files and prints."""
    if _is_alone(strategy):
        return True
    resolver = strategy.cluster_resolver
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and not resolver.cluster_spec().as_dict().get("chief")
    )


def all_workers_have(number: int, strategy: tf.distribute.Strategy) -> bool:
    """Whether a number is the same in all workers. Each of them must call this."""
    if _is_alone(strategy):
        return True

    @tf.function
    def mean():
        numbers = strategy.run(lambda: tf.constant(number, tf.float64))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, numbers, axis=None)

    return float(mean()) == number


def _is_alone(strategy):
    resolver = strategy.cluster_resolver
    return resolver is None or resolver.task_type is None
