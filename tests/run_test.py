"""The runner: each training once, whoever asks for it and however often. No network is trained."""

import collections
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from data.files import write_text
from experiments import base, run, tables
from experiments.plan import Work, matches_config, plan, remaining
from experiments.run import lock_folder, parse_shard, ranges_text, run_all, select_shard
from tests.conftest import ROOT

# Stands for train.py and eval.py: notes that it ran, and leaves what it was asked for.
PROGRAM = """
import json, pathlib, shutil, sys, time
folder, output, seconds = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
root = pathlib.Path(__file__).parent
with (root / "ran").open("a") as ran:
    print(folder.name, output, file=ran)
print("step 1/2 | 0:01 left", flush=True)
time.sleep(seconds)
if (root / f"{folder.name} fails").exists():
    sys.exit("error: it was to fail")
if not (folder / "config.json").exists():
    shutil.copy(root / "config.json", folder)
protocol = {"split": "val", "output_stride": 8 if "os8" in output else 16}
protocol |= {"scales": [1.0], "flip": False}
(folder / output).write_text(json.dumps({"step": STEPS, "protocol": protocol}))
""".replace("STEPS", str(base.get_config("shapes").steps))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of the programs, in place of the repository."""
    (tmp_path / "program.py").write_text(PROGRAM)
    write_text(tmp_path / "config.json", base.get_config("shapes").to_json())
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "POLL_SECONDS", 0.1)
    return tmp_path


def work(root, name, *, after=None, seconds=0, outputs=("eval.json", "eval_val_os8.json")):
    folder = root / "runs" / name
    commands = {each: ["program.py", str(folder), each, str(seconds)] for each in outputs}
    own = base.inference_of(base.get_config("shapes"))
    inference = {each: {**own, "output_stride": 8 if "os8" in each else 16} for each in outputs}
    after = after and root / "runs" / after
    return Work(folder, base.get_config("shapes"), commands, inference, name, after)


def ran(root):
    file = root / "ran"
    return collections.Counter(file.read_text().splitlines() if file.exists() else [])


def works_of(*names, scale="paper", seed=0, runs):
    return plan(tables.find_rows(names, scale), scale=scale, seed=seed, runs=runs)


def test_rows_that_share_a_training_share_a_work(tmp_path):
    works = {str(w.folder.relative_to(tmp_path)): w for w in works_of("table4", runs=tmp_path)}
    (cascade,) = works.values()
    assert list(works) == ["table3/mg121_block7"]
    scales = "0.5_0.75_1_1.25_1.5_1.75"
    assert list(cascade.commands) == [
        "eval.json",
        "eval_val_os8.json",
        f"eval_val_os8_ms{scales}.json",
        f"eval_val_os8_ms{scales}_flip.json",
    ]
    train, *_, last = (shlex.join(command) for command in cascade.commands.values())
    folder = tmp_path / "table3/mg121_block7"
    assert train == (
        f"train.py --config=experiments/table3.py:mg121_block7 --config.seed=0 --workdir={folder}"
    )
    assert last == (
        f"eval.py --run={folder} --split=val --output_stride=8 "
        "--scales=0.5,0.75,1,1.25,1.5,1.75 --flip"
    )


def test_what_starts_from_other_weights_comes_after_them_with_the_same_seed(tmp_path):
    works = works_of("table6:coco", "table5", scale="voc_small", seed=2, runs=tmp_path)
    coco, to_voc = works[:2]
    assert coco.folder == tmp_path / "voc_small/protocols/coco_seed2"
    assert to_voc.starts_from == coco.folder
    train = to_voc.commands["eval.json"]
    assert f"--config.init_from.path={coco.folder}" in train and "--config.seed=2" in train
    assert [w.folder.name for w in works[2:]] == [
        f"{name}_seed2" for name in ("mg111", "mg121", "mg124", "mg124_rate24", "base")
    ]


def test_what_only_a_server_can_score_ends_in_its_file(tmp_path):
    *_, last = works_of("table7", runs=tmp_path)
    assert last.folder == tmp_path / "protocols/test"
    command = shlex.join(last.commands["submission.tgz"])
    assert "--split=test --output_stride=8 --scales=0.5,0.75,1,1.25,1.5,1.75 --flip" in command
    assert command.endswith(f"--submission={last.folder}/submission.tgz")
    assert all("jft" not in str(w.folder) for w in works_of("table7", runs=tmp_path))


def test_all_is_run_once_however_often_it_is_asked_for(root, capsys):
    works = [work(root, "a"), work(root, "b"), work(root, "c", after="b")]
    assert run_all(works, root / "runs")
    once = ran(root)
    assert once == {f"{n} {o}": 1 for n in "abc" for o in ("eval.json", "eval_val_os8.json")}
    out = capsys.readouterr().out
    assert "a: step 1/2 | 0:01 left" in out and "[3/3] c: done" in out
    assert run_all(works, root / "runs") and ran(root) == once
    assert "3 already complete" in capsys.readouterr().out
    slow = work(root, "d", seconds=0.6)
    assert run_all([slow, *works], root / "runs")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "d: done" in line]
    assert line.endswith("about 0:00 left")  # The others are complete.
    once = ran(root)
    (works[1].folder / "eval_val_os8.json").unlink()
    assert run_all(works, root / "runs")
    assert ran(root) - once == {"b eval_val_os8.json": 1}


def test_what_fails_does_not_stop_the_others(root, capsys):
    works = [work(root, "a"), work(root, "b", after="a"), work(root, "c")]
    (root / "a fails").touch()
    assert not run_all(works, root / "runs")
    assert ran(root) == {"a eval.json": 1, "c eval.json": 1, "c eval_val_os8.json": 1}
    said = json.loads((works[0].folder / "failure.json").read_text())
    assert said["exit_code"] == 1 and said["said"] == "error: it was to fail"
    assert said["command"].startswith("python program.py ")
    assert "a, whose weights it needs, failed" in (works[1].folder / "failure.json").read_text()
    assert "2 failed, 1 done" in capsys.readouterr().out
    assert "error: it was to fail" in (works[0].folder / "run.log").read_text()
    (root / "a fails").unlink()
    assert run_all(works, root / "runs")
    assert not list((root / "runs").glob("*/failure.json"))


def test_a_folder_of_another_config_is_not_taken_for_done(root):
    done = work(root, "a")
    assert run_all([done], root / "runs") and not remaining(done)
    config = base.get_config("shapes")
    config.seed = 1
    assert remaining(done._replace(config=config)) == ["eval.json", "eval_val_os8.json"]
    (done.folder / "config.json").write_text("{")
    assert remaining(done) == ["eval.json", "eval_val_os8.json"]


def test_a_file_of_another_step_or_inference_or_a_damaged_one_is_made_again(root):
    done = work(root, "a")
    assert run_all([done], root / "runs")
    file = done.folder / "eval_val_os8.json"
    right = file.read_text()
    for wrong in (right.replace("1800", "600"), (done.folder / "eval.json").read_text(), "{", "[]"):
        file.write_text(wrong)
        assert remaining(done) == ["eval_val_os8.json"]
    assert run_all([done], root / "runs") and file.read_text() == right


def test_a_run_is_known_wherever_the_folder_of_all_runs_is(tmp_path):
    """Also where it was called otherwise when the run began."""
    (_, ours), (_, theirs) = (
        works_of("table6:coco", scale="voc_small", runs=tmp_path / runs) for runs in ("a", "b")
    )
    ours.folder.mkdir(parents=True)
    write_text(ours.folder / "config.json", theirs.config.to_json())
    assert matches_config(ours.folder, ours.config, ours.relative_start)
    theirs.config.init_from.path = str(tmp_path / "b" / "voc_small" / "base")
    write_text(ours.folder / "config.json", theirs.config.to_json())
    assert not matches_config(ours.folder, ours.config, ours.relative_start)
    (begins,) = works_of("table5:mg111", scale="shapes", runs=tmp_path)
    begins.config.init_from.path = "elsewhere"
    begins.folder.mkdir(parents=True)
    write_text(begins.folder / "config.json", begins.config.to_json())
    begins.config.init_from.path = ""
    assert not matches_config(begins.folder, begins.config, begins.relative_start)


def test_imagenets_weights_may_come_from_a_file_that_moves(tmp_path):
    def works_from(file):
        where = {"scale": "voc_mobile_aspp", "seed": 0, "runs": tmp_path, "imagenet": file}
        return plan(tables.find_rows(["table5:mg124", "table5:mg124_pooling"]), **where)

    work, _ = works_from("here/mobilenet.tflite")
    assert "--config.init_from.path=here/mobilenet.tflite" in work.commands["eval.json"]
    work.folder.mkdir(parents=True)
    write_text(work.folder / "config.json", work.config.to_json())
    for file, same in ((None, True), ("there/mobilenet.tflite", True), ("other.tflite", False)):
        again, other = works_from(file)
        assert matches_config(work.folder, again.config, None) == same
        assert not matches_config(work.folder, other.config, None)
    downloaded, _ = works_from(None)
    assert "init_from" not in shlex.join(downloaded.commands["eval.json"])
    write_text(work.folder / "config.json", downloaded.config.to_json())
    assert not matches_config(work.folder, work.config, None)
    (random,) = works_of("table5:mg124", scale="shapes", runs=tmp_path)
    assert not random.config.init_from.path  # A file is for what starts from ImageNet's weights.


def test_a_row_for_more_devices_than_are_here_says_so(root):
    assert not run_all([work(root, "a")._replace(devices=4096)], root / "runs")
    said = json.loads((root / "runs" / "a" / "failure.json").read_text())["said"]
    assert "needs 4096 GPUs; found" in said and not ran(root)


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    with lock_folder(tmp_path) as first, lock_folder(tmp_path) as second:
        assert first is not None and second is None
    with lock_folder(tmp_path) as again:
        assert again is not None


def test_two_runners_never_take_the_same(root):
    works = [work(root, name, seconds=0.2) for name in "abcdef"]
    threads = [threading.Thread(target=run_all, args=(w, root / "runs")) for w in (works, works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(ran(root).values()) == {1} and len(ran(root)) == 12


def test_one_waits_for_weights_that_another_is_at(root):
    first = work(root, "a", seconds=0.5)
    other = threading.Thread(target=run_all, args=([first], root / "runs"))
    other.start()
    while not ran(root):
        time.sleep(0.02)
    assert run_all([first, work(root, "b", after="a")], root / "runs")
    other.join()
    assert set(ran(root).values()) == {1} and len(ran(root)) == 4


def test_sigterm_ends_it_and_the_same_again_goes_on(root):
    script = f"""
import pathlib, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from experiments import run
from tests.run_test import work
root = pathlib.Path({str(root)!r})
run.ROOT = root
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
run.run_all([work(root, "a", seconds=float(sys.argv[1]))], root / "runs")
"""
    process = subprocess.Popen([sys.executable, "-c", script, "100"], stdout=subprocess.PIPE)
    try:
        for line in process.stdout:
            if b"step 1/2" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    finally:
        process.kill()
    assert not (root / "runs" / "a" / "eval.json").exists()
    subprocess.run([sys.executable, "-c", script, "0"], check=True)
    assert ran(root) == {"a eval.json": 2, "a eval_val_os8.json": 1}


def test_what_another_runner_leaves_unfinished_is_taken_over(root):
    mine = work(root, "a")
    with lock_folder(mine.folder) as held:
        assert held is not None
        runner = threading.Thread(target=run_all, args=([mine], root / "runs"))
        runner.start()
        time.sleep(0.3)
        assert runner.is_alive() and not ran(root)
    runner.join(timeout=30)
    assert ran(root) == {"a eval.json": 1, "a eval_val_os8.json": 1}


def test_shards_share_all_of_it_and_part_no_chain(tmp_path):
    works = [
        each
        for seed in range(2)
        for each in works_of("table3", "table6", scale="voc_small", seed=seed, runs=tmp_path)
    ]
    shards = [select_shard(works, (k, 3)) for k in (1, 2, 3)]
    assert sorted(w.folder for s in shards for w in s) == sorted(w.folder for w in works)
    assert max(map(len, shards)) - min(map(len, shards)) <= 2
    for shard in shards:
        folders = {w.folder for w in shard}
        assert all(w.starts_from in folders for w in shard if w.starts_from)


def test_a_row_may_be_asked_for_as_it_is_printed():
    assert tables.find_rows(["table5/mg111"]) == tables.find_rows(["table5:mg111"])


def test_the_jobs_of_an_array_are_named_in_ranges():
    assert ranges_text([1, 2, 3, 5, 7, 8]) == "1-3,5,7-8" and ranges_text([4]) == "4"


@pytest.mark.parametrize("text", ["0/8", "9/8", "2", "a/b", "1/0", "-1/2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ValueError, match=f"--shard must be K/N, .*; got {text}"):
        parse_shard(text)
    assert parse_shard("2/8") == (2, 8)


def test_a_dry_run_prints_commands_and_costs_and_runs_nothing(tmp_path, monkeypatch, capsys):
    arguments = ["run", "table5:mg111", "--scale=shapes", "--dry_run", f"--runs={tmp_path}"]
    arguments += ["--gpu", "A100"]
    monkeypatch.setattr(sys, "argv", arguments)
    run.main()
    out = capsys.readouterr().out
    assert "python train.py --config=experiments/table5.py:mg111@shapes" in out
    assert "memory, GB" in out and "A100 hours" in out and not list(tmp_path.iterdir())
    assert "--array" not in out  # Of one run.
    monkeypatch.setattr(sys, "argv", [*arguments, "--seeds=3", "--shard=2/2"])
    run.main()
    out = capsys.readouterr().out
    assert out.count("python train.py") == 1 and out.count("\ntable5/mg111 ") == 1
    monkeypatch.setattr(sys, "argv", [*arguments, "--seeds=3"])
    run.main()
    out = capsys.readouterr().out
    assert re.search(r"\ntable5/mg111 +3 +129 +8 +1800 ", out)
    assert re.search(r"\ntable +training runs +A100 hours\ntable5 +3 ", out)
    command = f"python -m experiments.run table5:mg111 --scale=shapes --seeds=3 --runs={tmp_path}"
    array = "#SBATCH --array=1-3 --gpus=1 --requeue"
    assert out.endswith(f"{array}\n{command} --shard=$SLURM_ARRAY_TASK_ID/3\n")
    monkeypatch.setattr(sys, "argv", ["run", "table11", "--scale=shapes", "--dry_run"])
    run.main()
    out = capsys.readouterr().out
    for gpus, number in ((1, "1"), (2, "2"), (4, "3"), (8, "4")):
        array = f"#SBATCH --array={number} --gpus={gpus} --requeue"
        assert f"\n{array}\npython -m experiments.run table11 --scale=shapes --shard=" in out
    assert out.endswith("--shard=$SLURM_ARRAY_TASK_ID/4\n")
    monkeypatch.setattr(sys, "argv", ["run", "table7", "--scale=shapes", "--dry_run"])
    with pytest.raises(SystemExit, match="None of these rows is available at the scale shapes"):
        run.main()
    monkeypatch.setattr(sys, "argv", [*arguments, "--seeds=0"])
    with pytest.raises(SystemExit, match="--seeds must be at least 1; got 0"):
        run.main()
    monkeypatch.setattr(sys, "argv", [*arguments, f"--imagenet={tmp_path}/weights.h5"])
    with pytest.raises(SystemExit, match="weights.h5: no such file"):
        run.main()
