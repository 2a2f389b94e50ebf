"""Several replicas and several workers take the same steps as one device."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import ROOT
from tests.train_test import log_of
from training.strategy import describe_devices, is_chief, make_strategy

STEPS = 20
# A cascade, since ASPP's dropout draws another mask for each replica.
CONFIG = f"""
from experiments import base

def get_config():
    config = base.get_config("shapes")
    config.steps, config.eval_every, config.learning_rate = {STEPS}, {STEPS // 2}, 0.001
    config.model.update(atrous_rates=None, num_blocks=5)
    config.train_data.update(batch_size=4, crop_size=33)
    return config
"""
# In float64: sums in another order differ in their last bits, and twenty steps of so small a batch
# make a thousand times as much of that. There is no native gradient of atrous convolution in it.
PROGRAM = """
import sys, tensorflow as tf, keras
devices = int(sys.argv.pop(1))
(cpu,) = tf.config.list_physical_devices("CPU")
if devices > 1:  # They must be there before TensorFlow is used, and no flag makes them.
    one = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [one] * devices)
keras.config.set_floatx("float64")
import model.deeplabv3, model.layers
model.layers.has_native_atrous_gradient = lambda dtype: False
conv, resize = keras.layers.Conv2D, model.deeplabv3.ResizeBilinear
keras.layers.Conv2D = lambda *arguments, dtype=None, **others: conv(*arguments, **others)
model.deeplabv3.ResizeBilinear = lambda *arguments, dtype=None, **others: resize(
    *arguments, **others
)
import runpy
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


def start(workdir, shapes_dir, *arguments, devices=1, **environment):
    config = workdir.parent / "cascade.py"
    config.write_text(CONFIG)
    flags = [f"--config={config}", f"--workdir={workdir}", f"--data_dir={shapes_dir}", *arguments]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(devices), *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def finish(*processes):
    outputs = [process.communicate(timeout=400)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


def two_workers(workdir, shapes_dir, second_workdir=None):
    """Starts them, on this machine, in one folder if no second one is given."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return [
        start(
            folder,
            shapes_dir,
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
            ),
        )
        for i, folder in enumerate((workdir, second_workdir or workdir))
    ]


def weights_of(run):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(run / "checkpoints"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.startswith("model/")
    }


@pytest.fixture(scope="module")
def alone(shapes_dir, tmp_path_factory):
    """A run on one device."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    finish(start(run, shapes_dir))
    return run


@pytest.fixture(scope="module")
def together(shapes_dir, tmp_path_factory):
    """A run of two workers, and what they printed."""
    run = tmp_path_factory.mktemp("runs") / "together"
    return run, finish(*two_workers(run, shapes_dir))


def same(run, other):
    """Losses and weights, to 1e-5 of their size."""
    ours, theirs = log_of(run), log_of(other)
    for field in ("step", "loss", "regularization", "learning_rate", "gradient_norm"):
        np.testing.assert_allclose(
            [row[field] for row in ours], [row[field] for row in theirs], rtol=1e-5
        )
    ours, theirs = weights_of(run), weights_of(other)
    assert ours.keys() == theirs.keys() and len(ours) > 50
    for name, value in ours.items():
        assert np.linalg.norm(value - theirs[name]) <= 1e-5 * np.linalg.norm(value), name


@pytest.mark.slow
def test_two_replicas_take_the_steps_of_one(alone, shapes_dir, tmp_path):
    finish(start(tmp_path / "run", shapes_dir, "--strategy=mirrored", devices=2))
    same(tmp_path / "run", alone)


@pytest.mark.slow
def test_two_workers_take_the_steps_of_one_and_the_chief_alone_writes(alone, together):
    run, (chief, other) = together
    assert "mIoU" in chief and "mIoU" not in other
    same(run, alone)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_dies_ends_the_other_and_both_go_on_exactly(
    together, shapes_dir, tmp_path, victim
):
    run = tmp_path / "run"
    workers = two_workers(run, shapes_dir)
    while not (run / "checkpoints" / "checkpoint").exists():  # Of half of the steps.
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.1)
    workers[victim].kill()
    out, _ = workers[1 - victim].communicate(timeout=60)
    assert workers[1 - victim].returncode == 1, out
    assert "error: Lost another worker" in out and "restart all workers" in out
    workers[victim].communicate()
    chief, _ = finish(*two_workers(run, shapes_dir))
    assert f"from step {STEPS // 2}." in chief
    ours, theirs = weights_of(together[0]), weights_of(run)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.mark.slow
def test_sigterm_to_all_workers_saves_and_both_go_on_exactly(together, shapes_dir, tmp_path):
    """As when a cluster takes the machines back; whoever hears of it first."""
    run = tmp_path / "run"
    workers = two_workers(run, shapes_dir)
    while not (run / "checkpoints" / "checkpoint").exists():  # Of half of the steps.
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.1)
    for worker in reversed(workers):
        worker.send_signal(signal.SIGTERM)
    outputs = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [143, 143], outputs
    chief, _ = finish(*two_workers(run, shapes_dir))
    assert "Resuming" in chief
    ours, theirs = weights_of(together[0]), weights_of(run)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("finished", [True, False])
def test_workers_that_do_not_see_one_folder_are_refused(together, shapes_dir, tmp_path, finished):
    run = shutil.copytree(together[0], tmp_path / "run")
    if not finished:
        (run / "eval.json").unlink()
    for worker in two_workers(run, shapes_dir, tmp_path / "other"):
        out, _ = worker.communicate(timeout=120)
        assert worker.returncode == 1 and "one folder that all of them see" in out, out


def test_devices_are_described():
    assert describe_devices(make_strategy()) == "1 CPU (1 replica)"
    assert describe_devices(tf.distribute.MirroredStrategy(["CPU:0"])) == "1 CPU (1 replica)"


def test_workers_need_to_know_of_each_other(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="multi_worker needs TF_CONFIG or a Slurm job"):
        make_strategy("multi_worker")


def test_mistakes_about_where_to_compute_are_named(monkeypatch):
    with pytest.raises(ValueError, match="needs --tpu=NAME"):
        make_strategy("tpu")
    with pytest.raises(ValueError, match="--tpu is for --strategy=tpu, not one_device"):
        make_strategy("one_device", "local")
    monkeypatch.setenv("TF_CONFIG", "{bad")
    with pytest.raises(ValueError, match="TF_CONFIG is not valid JSON"):
        make_strategy()


def test_a_slurm_allocation_without_srun_is_one_device(monkeypatch):
    """Its variables are there, but nobody started other tasks."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert make_strategy().num_replicas_in_sync == 1


@pytest.mark.parametrize(
    "others, task, index, expected",
    [
        ([], "worker", 0, True),
        ([], "worker", 1, False),
        (["chief"], "chief", 0, True),
        (["chief"], "worker", 0, False),
    ],
)
def test_one_worker_is_the_chief(others, task, index, expected):
    """The first one, where the cluster names none."""
    cluster = tf.train.ClusterSpec({name: ["a:1"] for name in others} | {"worker": ["b:1", "c:1"]})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, task_type=task)
    resolver.task_id = index
    assert is_chief(types.SimpleNamespace(cluster_resolver=resolver)) == expected
