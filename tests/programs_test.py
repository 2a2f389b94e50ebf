"""The programs as a user runs them: from nothing to a SavedModel, and what is said of mistakes."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data.pipeline import eval_examples
from evaluation.prediction import make_predictor
from evaluation.results import read_counts
from experiments.base import as_data
from model.deeplabv3 import deeplabv3
from tests.conftest import ROOT
from tests.preloaded_python import preloaded_python
from training.checkpoints import load_weights
from training.run_folder import read_config

SMALL = [
    "--config.steps=3",
    "--config.model.backbone=resnet_tiny",
    "--config.train_data.batch_size=4",
    "--config.train_data.crop_size=33",
]


def program(name, *arguments):
    """Runs a program -> its exit code, and what it printed on both outputs."""
    result = subprocess.run(
        [preloaded_python(), ROOT / name, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return result.returncode, result.stdout


# Of an export, and different each time: times, and a number that TensorFlow draws.
CHANGING = ("gate.json", "fingerprint.pb")


@pytest.fixture(scope="module")
def run(shapes_dir, tmp_path_factory):
    """A run of three steps, by train.py."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    code, out = program("train.py", *SMALL, f"--workdir={folder}", f"--data_dir={shapes_dir}")
    assert code == 0, out
    for said in ("step 3/3", "learning rate", "images/s", "evaluating val 5/5", "mIoU", "Best: "):
        assert said in out
    assert out.startswith(f"{folder}: 1 CPU (1 replica), float32\n")
    return folder


def test_a_run_leaves_all_that_was_promised(run, shapes_dir):
    result = json.loads((run / "eval.json").read_text())
    assert result["num_images"] == 5 and result["step"] == 3
    for field, value in {"dataset": "shapes/2.0.0", "split": "val", "output_stride": 16}.items():
        assert result["protocol"][field] == value
    assert len(result["iou_per_class"]) == 21
    seen = [iou for iou in result["iou_per_class"].values() if iou is not None]
    assert result["miou"] == pytest.approx(np.mean(seen))
    assert result["config"] == as_data(read_config(run))
    page = (run / "eval.html").read_text()
    assert page.count("<figure ") == 5 and "plain_disc" in page
    assert len(read_counts(run / "eval.npz").ids) == 5
    events = list(run.glob("events.out.tfevents.*"))
    tags = {
        value.tag
        for path in events
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"loss", "regularization", "learning_rate", "images_per_second", "miou"} <= tags
    assert (run / "log.csv").read_text().startswith("step,loss,regularization,learning_rate,")


@pytest.mark.parametrize("output_stride", [16, 8, 32])
def test_eval_scores_a_run_at_any_output_stride(run, shapes_dir, output_stride):
    before = json.loads((run / "eval.json").read_text())
    code, out = program(
        "eval.py", f"--run={run}", f"--output_stride={output_stride}", f"--data_dir={shapes_dir}"
    )
    assert code == 0, out
    name = "eval" if output_stride == 16 else f"eval_val_os{output_stride}"
    result = json.loads((run / f"{name}.json").read_text())
    assert result["protocol"]["output_stride"] == output_stride
    assert "plain_disc" in out and f"{100 * result['miou']:.2f}" in out
    if output_stride == 16:  # As train.py scored it.
        assert result == before


def test_the_export_gives_the_class_ids_of_the_model_without_this_project(
    run, shapes_dir, shapes_builder, tmp_path
):
    folder = tmp_path / "exported"
    written = []
    for _ in range(2):  # The second one takes the place of the first.
        code, out = program(
            "export.py", f"--run={run}", f"--output={folder}", f"--data_dir={shapes_dir}"
        )
        assert code == 0, out
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        written.append({path: path.read_bytes() for path in files if path.name not in CHANGING})
    assert written[0] == written[1] and folder / "model_card.md" in written[0]
    assert re.search(r"saved_model +0\.00", out), out
    data = json.loads((folder / "assets" / "data.json").read_text())
    scored = json.loads((run / "eval.json").read_text())["miou"]
    assert data["provenance"]["evaluation"]["miou"] == scored
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    images = [
        example["image"] for example in eval_examples(shapes_builder, "val").as_numpy_iterator()
    ]
    images.append(np.random.default_rng(0).integers(0, 256, (1, 70, 3)).astype(np.uint8))
    np.savez(tmp_path / "images.npz", *images)
    script = f"""
import numpy as np, tensorflow as tf
images = np.load({str(tmp_path / "images.npz")!r})
segment = tf.saved_model.load({str(folder)!r})
signature = segment.signatures["serving_default"]
out = {{}}
for name, image in images.items():
    out[name] = segment(image[None])[0].numpy()
    served = signature(images=tf.constant(image[None]))["class_ids"][0].numpy()
    assert (served == out[name]).all()
np.savez({str(tmp_path / "ids.npz")!r}, **out)
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    config = read_config(run)
    model = deeplabv3(**config.model)
    assert load_weights(model, run) == 3
    predict = make_predictor(model)
    ids = np.load(tmp_path / "ids.npz")
    for image, exported in zip(images, ids.values(), strict=True):
        assert exported.dtype == np.uint8 and exported.shape == image.shape[:2]
        assert (exported != predict(image[None])[0].numpy()).mean() <= 1e-4


def test_the_best_weights_are_scored_into_files_of_their_own(run, shapes_dir):
    own = (run / "eval.json").read_bytes()
    code, out = program("eval.py", f"--run={run}", "--checkpoint=best", f"--data_dir={shapes_dir}")
    assert code == 0 and out.startswith(f"{run}: checkpoint best, step 3\n"), out
    assert json.loads((run / "eval_best.json").read_text())["checkpoint"] == "best"
    assert (run / "eval.json").read_bytes() == own and json.loads(own)["checkpoint"] == "last"
    code, out = program("predict.py", f"--run={run}", "--checkpoint=17", "docs/output_stride.png")
    assert code == 1 and "there are last (step 3), best (step 3), 3." in out
    code, out = program("export.py", f"--run={run / 'best'}")
    assert code == 1 and f"use --run={run} --checkpoint=best" in out


def test_a_finished_run_says_so_and_is_left_as_it_is(run, shapes_dir):
    before = {path: path.stat().st_mtime for path in run.rglob("*")}
    again = [*SMALL, f"--workdir={run}", f"--data_dir={shapes_dir}"]
    code, out = program("train.py", *again)
    assert code == 0 and out.startswith(f"{run} is finished. Last: step 3, mIoU "), out
    assert {path: path.stat().st_mtime for path in run.rglob("*")} == before
    code, out = program("train.py", *again, "--config.steps=6")
    assert code == 1 and f"--config.init_from.path={run} --config.init_from.part=whole" in out


def test_several_scales_and_flip_are_scored_into_files_of_their_own(run, shapes_dir):
    how = ["--scales=0.5,1", "--flip", "--output_stride=8"]
    code, out = program("eval.py", f"--run={run}", *how, f"--data_dir={shapes_dir}")
    assert code == 0, out
    result = json.loads((run / "eval_val_os8_ms0.5_1_flip.json").read_text())
    assert result["protocol"]["scales"] == [0.5, 1] and result["protocol"]["flip"]
    own = json.loads((run / "eval.json").read_text())
    assert result["protocol"]["hash"] != own["protocol"]["hash"]
    code, out = program("eval.py", f"--run={run}", "--scales=0.5,x")
    assert code == 1 and "--scales=0.5,x: could not convert" in out
    code, out = program("eval.py", f"--run={run}", "--scales=0.55", f"--data_dir={shapes_dir}")
    assert code == 1 and "Scales must be multiples of 1/8, such as 0.5 or 0.75; got 0.55" in out


def test_the_score_is_that_of_the_pictures_that_are_written(run, shapes_dir, shapes_builder):
    """Computed anew from the PNGs, class by class."""
    masks = run / "masks"
    code, out = program("eval.py", f"--run={run}", f"--masks={masks}", f"--data_dir={shapes_dir}")
    assert code == 0, out
    written = {file.stem: np.array(Image.open(file)) for file in masks.iterdir()}
    ious = []
    labels = {
        example["id"].decode(): example["label"]
        for example in eval_examples(shapes_builder, "val").as_numpy_iterator()
    }
    assert written.keys() == labels.keys()
    for k in range(21):
        both = sum(((labels[i] == k) & (written[i] == k)).sum() for i in labels)
        either = sum(
            (((labels[i] == k) | (written[i] == k)) & (labels[i] != 255)).sum() for i in labels
        )
        if any((label == k).any() for label in labels.values()):
            ious.append(both / either)
    result = json.loads((run / "eval.json").read_text())
    assert result["miou"] == pytest.approx(np.mean(ious), abs=1e-12)


def test_what_vocs_server_does_not_take_is_not_written_for_it(run, shapes_dir):
    code, out = program("eval.py", f"--run={run}", "--submission=x.tgz", f"--data_dir={shapes_dir}")
    assert code == 1 and "not for val of shapes" in out
    assert not (ROOT / "x.tgz").exists()


def test_photos_are_predicted_by_a_run_and_by_what_was_exported_from_it(run, tmp_path):
    (tmp_path / "photos").mkdir()
    colors = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    Image.fromarray(colors).save(tmp_path / "photos" / "a.png")
    Image.fromarray(colors[:40]).convert("CMYK").save(tmp_path / "photos" / "b.jpg")
    (tmp_path / "photos" / "c.jpg").write_text("no photo")
    code, out = program(
        "export.py",
        f"--run={run}",
        f"--output={tmp_path / 'exported'}",
        "--gate_images=0",
        "--format=saved_model,saved_model",
    )
    assert code == 0 and out.count("not checked") == 1, out
    masks = []
    for source in (f"--run={run}", f"--saved_model={tmp_path / 'exported'}"):
        output = tmp_path / f"out{len(masks)}"
        code, out = program("predict.py", source, f"--output={output}", tmp_path / "photos")
        assert code == 1 and "c.jpg cannot be read" in out and "Traceback" not in out
        assert "2 of 3 photos" in out and "1 could not be read" in out
        names = ["a_mask.png", "a_overlay.jpg", "b_mask.png", "b_overlay.jpg"]
        assert sorted(path.name for path in output.iterdir()) == names
        masks.append([np.array(Image.open(output / name)) for name in names[::2]])
    assert [mask.shape for mask in masks[0]] == [(70, 90), (40, 90)]
    for ours, theirs in zip(*masks, strict=True):
        assert (ours != theirs).mean() <= 1e-4


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["photo.jpg"], "Name a --run or a --saved_model"),
        (["--run=RUN"], "Name photos"),
        (["--run=RUN", "nowhere.jpg"], "nowhere.jpg matches no photo"),
        (["--run=RUN", "README.md", "RUN/README.png"], "would both be written to"),
        (["--run=RUN", "--output=README.md", "README.md"], "is a file; name a folder"),
        (["--run=RUN", f"RUN/{'n' * 245}.png"], "has too long a name for its results"),
        (["--saved_model=RUN", "README.md"], "is not a SavedModel; export.py writes one"),
        (["--run=experiments", "README.md"], "is not a run folder"),
        (["--run=RUN", "--output=.", "README.md"], "holds photos"),
    ],
)
def test_mistakes_in_predicting_are_named(run, arguments, said):
    for name in ("README.png", f"{'n' * 245}.png"):
        (run / name).touch()
    code, out = program(
        "predict.py", *(argument.replace("RUN", str(run)) for argument in arguments)
    )
    assert code == 1 and said in out and "Traceback" not in out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--output=THERE"], "is not an export with saved_model.pb and assets/data.json"),
        (["--format=onnx,litert_int8", "--output=THERE"], "--output takes a single one"),
        (["--size=513", "--format=onnx"], "--size must be H,W in pixels, such as 513,513; got 513"),
        (["--scales=0", "--gate_images=0"], "error: Scales must be multiples of 1/8"),
    ],
)
def test_mistakes_in_exporting_are_named_and_nothing_is_overwritten(run, tmp_path, arguments, said):
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "saved_model.pb").write_text("of others")
    arguments = [argument.replace("THERE", str(tmp_path)) for argument in arguments]
    before = sorted(os.listdir(run))
    code, out = program("export.py", f"--run={run}", *arguments)
    assert code == 1 and said in out and "Traceback" not in out
    assert sorted(os.listdir(run)) == before
    assert (tmp_path / "mine.txt").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_leave_a_run_that_goes_on(shapes_dir, tmp_path, sent, code):
    # A rate that changes nothing: four crops of 33 pixels were non-finite after 12 steps at 0.05 on
    # one processor, and after 146 steps at 0.001 on a fast one, before the signal came.
    many_steps = ["--config.steps=100000", "--config.learning_rate=1e-9"]
    command = [sys.executable, ROOT / "train.py", *SMALL, *many_steps]
    process = subprocess.Popen(
        [*command, f"--workdir={tmp_path / 'run'}", f"--data_dir={shapes_dir}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a shell, Ctrl-C is ignored, and by children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for line in process.stdout:
            if line.startswith("step "):
                break
        process.send_signal(sent)
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, out
    assert "Run the same command again to resume." in out
    config = read_config(tmp_path / "run")
    assert load_weights(deeplabv3(**config.model), tmp_path / "run") > 0


MISTAKES = {
    "an unknown row": (
        ["--config=experiments/table5.py:mg999"],
        "No row 'mg999' in table5; there are mg111, mg121, mg124, mg124_rate24, mg124_pooling",
    ),
    "a misspelt field": (["--config.lr=8"], "Did you mean --config.learning_rate?"),
    "a missing config": (["--config=nowhere.py"], "there are experiments/base.py:SCALE, "),
    "an unknown strategy": (["--strategy=two"], "<auto|one_device|mirrored|multi_worker|tpu>"),
    "a missing data set": (
        ["--config=experiments/base.py:voc_small"],
        "python -m data.build voc2012 --manual_dir=",
    ),
    "a run of another config": (["--config.seed=1"], "seed: 0 (saved), 1 (requested)"),
    "an impossible plan": (["--config.model.output_stride=64"], "choose from 8, 16, 32"),
    "a stray word": (["shapes"], "unexpected 'shapes'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_in_a_line(run, shapes_dir, mistake):
    arguments, said = MISTAKES[mistake]
    before = sorted(os.listdir(run))
    code, out = program(
        "train.py", *arguments, *SMALL, f"--workdir={run}", f"--data_dir={shapes_dir}"
    )
    assert code == 1
    assert said in out
    assert "Traceback" not in out
    assert sorted(os.listdir(run)) == before


@pytest.mark.parametrize("name", ["eval.py", "export.py"])
def test_a_folder_that_is_no_run_says_so(name, tmp_path):
    code, out = program(name, f"--run={tmp_path}")
    assert code == 1
    assert "is not a run folder" in out and "Traceback" not in out
