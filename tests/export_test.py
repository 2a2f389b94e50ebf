"""What is exported does what the model does and says what it is, or is not there."""

import base64
import importlib.util
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deployment import artifact, exporter, formats, gate, saved_model
from deployment.exporter import Exporter
from deployment.formats import check_formats
from deployment.inference_graph import InferenceNetwork
from deployment.metadata import describe
from evaluation.prediction import make_predictor
from experiments.base import MULTI_SCALE, as_data, make_config
from model.deeplabv3 import deeplabv3
from tests.conftest import ROOT
from tests.fold_batch_norm_test import with_random_statistics
from training.checkpoints import Checkpoints
from training.run_folder import open_run, read_config, write_data

INFERENCE = {"output_stride": 16, "scales": (1.0,), "flip": False}
SIZES = [(1, 1, 1), (1, 3, 7), (1, 500, 375), (1, 513, 513), (4, 40, 90)]


@pytest.fixture(scope="module")
def run(shapes_dir, tmp_path_factory):
    """A run that took no step, with weights that give all kinds of classes."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = make_config("base", {}, "shapes")
    config.model.backbone = "resnet_tiny"
    open_run(folder, as_data(config))
    write_data(folder, exporter.open_dataset("shapes", str(shapes_dir)), "train")
    model = deeplabv3(**config.model)
    source = with_random_statistics(**config.model)
    for weight, value in zip(model.weights, source.weights, strict=True):
        weight.assign(value)
    logits = model.get_layer("logits")
    logits.kernel.assign(20 * logits.kernel)
    Checkpoints(folder, model).save(7)
    return folder


@pytest.fixture(scope="module")
def export(run, shapes_dir):
    """What exports that run, with a gate of three images."""
    return Exporter(run, inference=INFERENCE, gate_images=3, data_dir=str(shapes_dir))


@pytest.fixture(scope="module")
def folder(export, tmp_path_factory):
    """Its SavedModel."""
    folder = tmp_path_factory.mktemp("exports") / "saved_model"
    export.write("saved_model", folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder):
    return tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def checkpoint(export):
    return make_predictor(export.model)


def images_of(number, height, width):
    """Photo-like: coarse noise, so that regions have classes."""
    rng = np.random.default_rng(height + width)
    coarse = rng.integers(0, 256, (number, -(-height // 20), -(-width // 20), 3)).astype(np.uint8)
    return coarse.repeat(20, axis=1).repeat(20, axis=2)[:, :height, :width]


def file_of(picture, form="PNG", **options):
    """A picture of Pillow or an array -> the bytes of its file."""
    file = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(
        file, form, **options
    )
    return file.getvalue()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_all_signatures_give_the_checkpoints_classes(loaded, checkpoint, size):
    images = images_of(*size)
    expected = checkpoint(images).numpy()
    ids = loaded(images).numpy()
    assert ids.dtype == np.uint8 and ids.shape == expected.shape
    assert (ids != expected).mean() <= 1e-4
    if min(size[1:]) > 20:
        assert len(np.unique(ids)) > 3
    served = loaded.signatures["serving_default"](images=tf.constant(images))["class_ids"]
    np.testing.assert_array_equal(served, ids)
    files = tf.constant([file_of(image) for image in images])
    of_files = loaded.signatures["image_bytes"](image_bytes=files)["class_ids"]
    np.testing.assert_array_equal(of_files, ids)
    of = loaded.signatures["probabilities"](images=tf.constant(images))["probabilities"].numpy()
    assert of.dtype == np.float32 and of.shape == (*size, 21)
    np.testing.assert_allclose(of.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(of.argmax(-1), ids)


@pytest.mark.slow
def test_a_large_photo(loaded, checkpoint):
    images = images_of(1, 2000, 3000)
    assert (loaded(images).numpy() != checkpoint(images).numpy()).mean() <= 1e-4


def test_a_jpeg_is_decoded_as_in_evaluation(loaded):
    file = file_of(images_of(1, 60, 90)[0], "JPEG")
    ids = loaded.signatures["image_bytes"](image_bytes=tf.constant([file]))["class_ids"]
    np.testing.assert_array_equal(ids, loaded(tf.io.decode_image(file, 3)[None]))


def test_the_documented_request_is_one_of_tf_servings(loaded, tmp_path):
    """As its REST API reads it: an instance is the value of the signature's only input.

    The photo is longer than an argument of a command may be.
    """
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    (tmp_path / "photo.jpg").write_bytes(file_of(noise, "JPEG", quality=100, subsampling=0))
    assert (tmp_path / "photo.jpg").stat().st_size > 100_000
    lines = (ROOT / "docs" / "export.md").read_text().splitlines()
    (command,) = [line for line in lines if line.startswith("(printf")]
    # In place of curl what curl would send.
    script = 'curl() { [ "$1 $2" = "-d @-" ] && cat; }\n' + command
    sent = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    request = json.loads(sent.stdout)
    assert request.keys() == {"signature_name", "instances"}
    signature = loaded.signatures[request["signature_name"]]
    (name,) = signature.structured_input_signature[1]
    files = [base64.b64decode(instance["b64"], validate=True) for instance in request["instances"]]
    assert signature(**{name: tf.constant(files)})["class_ids"].shape == (1, 200, 300)


def claiming(width, height):
    """A PNG whose header says another size than it has."""
    png = bytearray(file_of(np.zeros((4, 4, 3), np.uint8)))
    png[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(png)


def huge_jpeg():
    """A JPEG whose header says 65,000 x 26,000: five billion bytes."""
    jpeg = bytearray(file_of(np.zeros((8, 8, 3), np.uint8), "JPEG"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = (65_000).to_bytes(2, "big") + (26_000).to_bytes(2, "big")
    return bytes(jpeg)


SMALL = file_of(np.zeros((4, 4, 3), np.uint8))
JPEG = file_of(images_of(1, 60, 60)[0], "JPEG")
BAD_FILES = {
    "no image": ([b"no image"], "neither a JPEG nor a PNG"),
    "nothing": ([b""], "neither a JPEG nor a PNG"),
    "a GIF": ([file_of(np.zeros((4, 4), np.uint8), "GIF")], "neither a JPEG nor a PNG"),
    "an empty batch": ([], "request has no image"),
    "5 GB, a PNG": ([claiming(65_000, 26_000)], "may have 16.8 megapixels"),
    "5 GB, a JPEG": ([huge_jpeg()], "may have 16.8 megapixels"),
    "more than 32 bits of pixels": ([claiming(2**31 - 1, 2**31 - 1)], "16.8 megapixels"),
    "no pixels": ([claiming(0, 5)], "may have 16.8 megapixels"),
    "sides of 2^31 and more": ([claiming(2**32 - 4, 2**32 - 4)], "16.8 megapixels"),
    "more than 64 bits of pixels": (
        [claiming(2**30 + 2**15, 2**30 - 2**15 + 1)] * 16,
        "megapixels",
    ),
    "many that are large together": ([claiming(4096, 4096)] * 2, "16.8 megapixels"),
    "two sizes": ([SMALL, file_of(np.zeros((4, 5, 3), np.uint8))], "must have one size"),
    "a PNG that is cut off": ([SMALL[:40]], ""),
    "a JPEG that is cut off": ([JPEG[:600]], "Invalid JPEG data"),
    "a JPEG of one half": ([JPEG[: len(JPEG) // 2]], "Invalid JPEG data"),
    "a JPEG without its last byte": ([JPEG[:-1]], "Invalid JPEG data"),
    "a JPEG of three bytes": ([b"\xff\xd8\xff"], ""),
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_bad_files_are_an_error_of_the_signature(loaded, bad):
    files, said = BAD_FILES[bad]
    with pytest.raises(tf.errors.InvalidArgumentError, match=said or None):
        loaded.signatures["image_bytes"](image_bytes=tf.constant(files, tf.string))
    good = loaded.signatures["image_bytes"](image_bytes=tf.constant([SMALL]))["class_ids"]
    assert good.shape == (1, 4, 4)


@pytest.mark.parametrize("shape", [(0, 5, 5, 3), (1, 0, 5, 3)])
@pytest.mark.parametrize("signature", ["serving_default", "probabilities"])
def test_no_image_is_an_error_of_the_signature(loaded, signature, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="request has no image"):
        loaded.signatures[signature](images=tf.zeros(shape, tf.uint8))


@pytest.mark.parametrize("shape", [(1, 5, 5, 1), (1, 5, 5, 4), (5, 5, 3), (1, 1, 5, 5, 3), ()])
@pytest.mark.parametrize("signature", ["serving_default", "probabilities"])
def test_images_of_another_shape_are_an_error_of_the_signature(loaded, signature, shape):
    came = r"these are\] \[" + " ".join(map(str, shape)) + r"\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[B, H, W, 3\]; " + came):
        loaded.signatures[signature](images=tf.zeros(shape, tf.uint8))


def test_a_tensor_of_another_type_is_an_error(loaded):
    images = tf.zeros((1, 5, 5, 3))
    with pytest.raises(TypeError, match="float32.*uint8"):
        loaded(images)
    with pytest.raises(tf.errors.InvalidArgumentError, match="to be a uint8 tensor"):
        loaded.signatures["serving_default"](images=images)


def test_weights_are_variables_and_there_once(loaded, folder, export):
    """Constants would take several times the memory: TensorFlow keeps many copies of them."""
    weights = sum(weight.numpy().nbytes for weight in export.model.weights)
    assert size_of_weights(folder) < 1.05 * weights
    graph = loaded.__call__.concrete_functions[0].graph.as_graph_def()
    nodes = [node for f in graph.library.function for node in f.node_def]
    assert not any("BatchNorm" in node.op or "Dropout" in node.op for node in nodes)
    assert sum(node.op == "Conv2D" for node in nodes) > 10
    constants = [node.attr["value"].tensor.ByteSize() for node in nodes if node.op == "Const"]
    assert max(constants) < 1000


def size_of_weights(folder):
    return gate.size_in_bytes(folder / "variables")


def test_bfloat16_halves_the_file(run, checkpoint, folder, tmp_path):
    Exporter(run, inference=INFERENCE, gate_images=0).write(
        "saved_model_bfloat16", tmp_path / "half"
    )
    assert size_of_weights(tmp_path / "half") < 0.55 * size_of_weights(folder)
    reader = tf.train.load_checkpoint(str(tmp_path / "half" / "variables" / "variables"))
    floats = {dtype for dtype in reader.get_variable_to_dtype_map().values() if dtype.is_floating}
    assert floats == {tf.bfloat16, tf.float32}  # The latter of the logits' layer.
    images, half = images_of(1, 60, 90), tf.saved_model.load(str(tmp_path / "half"))
    probabilities = half.signatures["probabilities"](images=tf.constant(images))["probabilities"]
    assert probabilities.dtype == tf.float32
    assert (half(images).numpy() != checkpoint(images).numpy()).mean() < 0.1


def test_scales_and_flip_are_inside(run, tmp_path, export):
    inference = {"output_stride": 8, "scales": (0.5, 1.0), "flip": True}
    other = Exporter(run, inference=inference, gate_images=0)
    other.write("saved_model", tmp_path / "ms")
    images = images_of(1, 40, 70)
    predict = make_predictor(other.model, scales=inference["scales"], flip=inference["flip"])
    expected = predict(images).numpy()
    ids = tf.saved_model.load(str(tmp_path / "ms"))(images).numpy()
    assert (ids != expected).mean() <= 1e-3  # Of 2,800 pixels.
    assert json.loads((tmp_path / "ms" / "gate.json").read_text()).keys() == {"format", "bytes"}
    assert other.data["margin"] > 2 * export.data["margin"] - 4 * 16
    card = (tmp_path / "ms" / "model_card.md").read_text()
    assert "output stride 8, scales 0.5, 1, with flip.\n" in card


def test_data_json_and_the_model_card_say_what_it_is(run, export, folder):
    data = json.loads((folder / "assets" / "data.json").read_text())
    assert data["num_classes"] == len(data["class_names"]) == len(data["palette"]) == 21
    assert data["pixels"]["mean"] == list(export.mean_pixel) and data["pixels"]["bgr"] is False
    assert data["corners"] == "aligned" and data["size"] is None
    provenance = data["provenance"]
    assert provenance["step"] == 7 and provenance["evaluation"] is None
    assert provenance["config"] == as_data(read_config(run))
    assert provenance["trained_on"]["dataset"] == "shapes/2.0.0"
    card = (folder / "model_card.md").read_text()
    wanted = ("resnet_tiny", "plain_disc", "step 7", "any size", "3 images of shapes, val")
    for said in (*wanted, "output stride 16, scale 1.\n", "0 background (#000000), 1 "):
        assert said in card
    code = card.partition("```python\n")[2].partition("```")[0].replace("FOLDER", str(folder))
    found = {"images": images_of(1, 9, 9)}
    exec(code, found)
    assert found["class_ids"].shape == (1, 9, 9)


def test_the_score_is_that_of_these_weights_in_this_way(run, export, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(run, other)
    result = {
        "miou": 0.5,
        "miou_interval": [0.4, 0.6],
        "iou_per_class": {},
        "num_images": 5,
        "protocol": {},
        "step": 7,
    }
    (other / "eval.json").write_text(json.dumps(result))

    def score(**how):
        how = {"checkpoint": "last", "step": 7, "inference": INFERENCE, "size": None, **how}
        return describe(other, as_data(read_config(run)), **how)["provenance"]["evaluation"]

    assert score()["miou"] == 0.5
    assert score(step=8) is None and score(checkpoint="best") is None
    assert score(inference={**INFERENCE, "scales": MULTI_SCALE}) is None


def test_the_gate_compares_with_the_checkpoint(export, folder):
    figures = json.loads((folder / "gate.json").read_text())
    assert figures["images"] == 3 and figures["tolerance"]["differing"] == 1e-4
    assert figures["differing"] <= 1e-4
    labels, ids = [np.array([[0, 1, 255, 1]])], [np.array([[0, 1, 1, 1]], np.uint8)]
    checkpoint = gate.Samples([], labels, [np.array([[0, 0, 0, 1]], np.uint8)], [2.0])
    figures = gate.compare(ids, [1.0], checkpoint, 2)
    assert figures["differing"] == 0.5
    assert figures["miou"] == {"checkpoint": 0.5, "export": 1.0}
    assert gate.is_within_tolerance(figures, formats.Format("", "", {}, differing=0.5, miou=0.5))
    assert not gate.is_within_tolerance(
        figures, formats.Format("", "", {}, differing=0.49, miou=0.5)
    )
    assert not gate.is_within_tolerance(
        figures, formats.Format("", "", {}, differing=0.5, miou=0.49)
    )
    with pytest.raises(ValueError, match="returns int64"):
        gate.compare([ids[0].astype(int)], [1.0], checkpoint, 2)


@pytest.mark.parametrize("broken", ["other classes", "not to be loaded"])
def test_what_the_gate_refuses_is_not_there(export, folder, tmp_path, monkeypatch, broken):
    """Nor is anything else: an export that is in its place stays."""
    if broken == "other classes":

        class LeastProbable(InferenceNetwork):
            def __call__(self, images):
                return 1 - super().__call__(images)

        monkeypatch.setattr(artifact, "InferenceNetwork", LeastProbable)
        said = "pixels differ, mIoU is .*at most 0.01 % of pixels may differ"
    else:

        def write_half(segmenter, folder):
            saved_model.write_saved_model(segmenter, folder)
            (file,) = folder.glob("variables/*.data*")
            file.write_bytes(file.read_bytes()[: 10**6])

        monkeypatch.setattr(artifact, "write_saved_model", write_half)
        said = "tensorflow cannot run the export"
    place = tmp_path / "there"
    if broken == "other classes":
        shutil.copytree(folder, place)
    with pytest.raises(ValueError, match=said):
        export.write("saved_model", place)
    if broken == "other classes":
        for name in ("saved_model.pb", "gate.json"):
            assert (place / name).read_bytes() == (folder / name).read_bytes()
        shutil.rmtree(place)
    assert not list(tmp_path.iterdir())


def test_the_runner_knows_nothing_of_this_project():
    command = [sys.executable, "-I", "-c", "import sys; sys.argv[1:] = []; import model"]
    done = subprocess.run(
        command, cwd=gate.RUNTIMES_SCRIPT.parent.parent, capture_output=True, text=True
    )
    assert "No module named 'model'" in done.stderr
    text = gate.RUNTIMES_SCRIPT.read_text()
    assert not any(
        f"{how} {ours}" in text
        for how in ("from", "import")
        for ours in ("model", "data", "experiments")
    )


def test_images_of_a_fixed_size_are_cut_and_filled():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    fitted = gate.fit_to_size(picture, (1, 3), (9.6, 1, 2))
    np.testing.assert_array_equal(fitted, [[[0, 1, 2], [3, 4, 5], [10, 1, 2]]])
    np.testing.assert_array_equal(gate.fit_to_size(np.array([[3]]), (1, 2), 255), [[3, 255]])
    assert gate.fit_to_size(picture, None, 0) is picture


def test_without_images_for_the_gate_it_is_said_what_to_do(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["eval_data"]["dataset"] = "voc2012"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileNotFoundError, match="--data_dir, or skip it with --gate_images"):
        Exporter(tmp_path / "run", inference=INFERENCE, gate_images=1, data_dir=str(tmp_path))


def test_a_missing_library_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(
        ValueError, match="onnx needs tf2onnx and onnxruntime: pip install tf2onnx "
    ):
        check_formats(["onnx"], fixed_size=False)
    with pytest.raises(ValueError, match="int8 needs ai-edge-litert: pip install ai-edge-litert"):
        check_formats(["litert_int8"], fixed_size=False)
    check_formats(["saved_model"], fixed_size=False)
    with pytest.raises(ValueError, match="No format 'tflite'; there are saved_model, "):
        check_formats(["tflite"], fixed_size=False)
    with pytest.raises(ValueError, match="any size: leave --size out"):
        check_formats(["saved_model"], fixed_size=True)


PORTABLE = [name for name in formats.FORMATS if not name.startswith("saved_model")]


def needs(name):
    for module, package in formats.FORMATS[name].libraries.items():
        pytest.importorskip(module, reason=f"pip install {package}")


@pytest.mark.parametrize("name", PORTABLE)
def test_other_runtimes_give_the_checkpoints_classes_at_any_size(
    name, export, checkpoint, tmp_path
):
    """The gate has compared them on three photos; here are sizes that photos do not have."""
    needs(name)
    kind = formats.FORMATS[name]
    export.write(name, tmp_path / name)
    images = [images_of(*size)[0] for size in SIZES]
    runtimes = [kind.runtime]
    if name == "onnx" and importlib.util.find_spec("openvino"):
        runtimes.append("openvino")
    for runtime in runtimes:
        ids, _ = gate.run_isolated(runtime, tmp_path / name / kind.file, images)
        for image, given in zip(images, ids, strict=True):
            expected = checkpoint(image[None])[0].numpy()
            assert given.shape == expected.shape
            if expected.size > 100 and name != "litert_int8":
                assert (given != expected).mean() <= kind.differing
    assert (tmp_path / name / "data.json").exists()


@pytest.mark.parametrize("name", ["litert_float32"])
def test_it_is_the_same_bytes_after_others(name, run, tmp_path):
    needs(name)
    export = Exporter(run, inference=INFERENCE, gate_images=0)
    for place in ("one", "two"):
        export.write(name, tmp_path / place)
    file = formats.FORMATS[name].file
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("name", ["litert_float32", "onnx"])
def test_images_may_be_of_one_size(name, run, shapes_dir, tmp_path):
    needs(name)
    how = {"inference": INFERENCE, "size": (65, 97), "data_dir": str(shapes_dir)}
    export = Exporter(run, gate_images=2, **how)
    export.write(name, tmp_path / "fixed")
    assert export.samples.images[0].shape == (65, 97, 3)
    kind = formats.FORMATS[name]
    with pytest.raises(ValueError, match="cannot run the export"):
        wrong = [np.zeros((66, 97, 3), np.float32)]
        gate.run_isolated(kind.runtime, tmp_path / "fixed" / kind.file, wrong)
