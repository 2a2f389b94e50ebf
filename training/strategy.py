"""Where a run computes: on one device, on several, or on several machines."""

import json
import os

import tensorflow as tf

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


def make_strategy(name: str = "auto", tpu: str | None = None) -> tf.distribute.Strategy:
    """A key of STRATEGIES -> that strategy; auto takes what is there.

    auto: the TPU, if one is named; the machines of TF_CONFIG or of a Slurm job, if there are
    several; all GPUs, if there are several; else one device. To be called before anything else is
    done with TensorFlow. Raises ValueError where it is not to be had.
    """
    if name not in STRATEGIES:
        raise ValueError(f"No strategy {name!r}; there are {', '.join(STRATEGIES)}.")
    if tpu and name not in ("auto", "tpu"):
        raise ValueError(f"--tpu is for --strategy=tpu, not {name}.")
    if name == "auto":
        name = "tpu" if tpu else _what_is_there()
    if name == "tpu":
        return _tpu_strategy(tpu)
    if name == "multi_worker":
        return _multi_worker_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()  # TensorFlow's own: the first GPU, or the CPU.


def _what_is_there():
    if "TF_CONFIG" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return "multi_worker"
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return "mirrored"
    return "one_device"


def _multi_worker_strategy():
    """Every machine runs the same command; TF_CONFIG or Slurm tells them of each other."""
    if "TF_CONFIG" in os.environ:
        try:
            json.loads(os.environ["TF_CONFIG"])
        except json.JSONDecodeError as error:
            raise ValueError(f"TF_CONFIG is no JSON: {error}") from error
        return tf.distribute.MultiWorkerMirroredStrategy()
    if "SLURM_PROCID" not in os.environ:
        raise ValueError("multi_worker needs TF_CONFIG, or a Slurm job's srun; neither is there.")
    return tf.distribute.MultiWorkerMirroredStrategy(
        cluster_resolver=tf.distribute.cluster_resolver.SlurmClusterResolver()
    )


def _tpu_strategy(tpu):
    """tpu: a name or address, or `local` for that of the machine this runs on."""
    if not tpu:
        raise ValueError("tpu needs to know which: --tpu=NAME, or --tpu=local on its own machine.")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu)
        if tpu != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, OSError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            f"No TPU {tpu!r} is to be had: {str(error).splitlines()[0][:200]} Is TensorFlow that "
            "of requirements-tpu.txt, and this its machine?"
        ) from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes the run's files and speaks."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type is None:
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and not resolver.cluster_spec().as_dict().get("chief")
    )


def all_workers_have(number: int, strategy: tf.distribute.Strategy) -> bool:
    """Whether a number is the same in all workers. Each of them must ask; False for one or more."""

    @tf.function
    def mean():
        numbers = strategy.run(lambda: tf.constant(number, tf.float64))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, numbers, axis=None)

    return float(mean()) == number
