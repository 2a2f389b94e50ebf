"""model_card.md of an export: what it is, how to load it, and its limits."""

from typing import Any

from data.terminal import interval_text, percent

HOW_TO_LOAD = {
    "tensorflow": """import os
os.environ["TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"] = "1"  # Faster on CPUs; not where weights change.
import tensorflow as tf
segment = tf.saved_model.load("FOLDER")
class_ids = segment(images)  # [B, H, W, 3] uint8 RGB -> [B, H, W] uint8""",
    "litert": """from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path="FOLDER/model.tflite")
index = interpreter.get_input_details()[0]["index"]
interpreter.resize_tensor_input(index, images.shape)  # [B, H, W, 3] uint8 RGB
interpreter.allocate_tensors()
interpreter.set_tensor(index, images)
interpreter.invoke()
class_ids = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])""",
    "onnxruntime": """import onnxruntime
session = onnxruntime.InferenceSession("FOLDER/model.onnx")
# [B, H, W, 3] uint8 RGB -> [B, H, W] uint8
(class_ids,) = session.run(None, {"images": images})
# OpenVINO computes in bfloat16 by default:
# openvino.Core().compile_model("FOLDER/model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})""",
}


def model_card(data: dict[str, Any], *, name: str, runtime: str, parity: str) -> str:
    """The content of data.json, the format, its runtime, a line on the parity check -> Markdown."""
    provenance, inference = data["provenance"], data["inference"]
    config, evaluation = provenance["config"], provenance["evaluation"]
    given = "[B, H, W, 3], any size"
    if data["size"]:
        given = "[1, {}, {}, 3]".format(*data["size"])
    classes = ", ".join(
        f"{i} {name} (#{bytes(color).hex()})"
        for i, (name, color) in enumerate(zip(data["class_names"], data["palette"], strict=True))
    )
    scales = f"scale{'s' * (len(inference['scales']) > 1)} "
    scales += ", ".join(f"{scale:g}" for scale in inference["scales"])
    flip = ", with flip" if inference["flip"] else ""
    score = "these weights have not been evaluated with this inference."
    if evaluation:
        score = (
            f"of the checkpoint, mIoU {percent(evaluation['miou'])} % (95 % CI over images "
            f"{interval_text(evaluation['miou_interval'])}) on {evaluation['num_images']} images "
            f"of {evaluation['protocol']['dataset']}, {evaluation['protocol']['split']}; protocol "
            f"{evaluation['protocol']['hash']}. IoU of each class is in data.json."
        )
    trained, by = provenance["trained_on"], provenance["exported_by"]
    source = trained.get("source", {}).get("path") or (
        f"{trained.get('dataset', 'unknown data')}, {trained.get('split', '')}, "
        f"{trained.get('num_images', '?')} images, {provenance['step']} steps"
    )
    return f"""# DeepLabv3, {config["model"]["backbone"]}: {name}

Segments an image: a class for each pixel. "Rethinking Atrous Convolution for Semantic Image
Segmentation", Chen et al., 2017, arXiv:1706.05587.

- **Input**: uint8 RGB, {given}. Normalization, padding and resizing are inside.
- **Output**: uint8 class ids, one for each pixel, of {data["num_classes"]} classes: {classes}.
- **Inference**: output stride {inference["output_stride"]}, {scales}{flip}.
- **Trained on**: {source}.
- **Score**: {score}
- **Parity check**: {parity}
- **From**: {provenance["run"]}, checkpoint {provenance["checkpoint"]}, step {provenance["step"]};
  exported by commit {by["commit"]} and TensorFlow {by["tensorflow"]}. The whole config is in
  data.json.

```python
{HOW_TO_LOAD[runtime]}
```

## Intended use and limits

For images like those it was trained on. It knows the classes above only: other objects become
background, or the class that they resemble. Scores hold for the data set named, and fall on other
cameras, places and seasons; boundaries and thin parts are the least certain. It has not been
evaluated for bias across demographic groups: do not use it as the sole basis for decisions that can
harm people. Images are not turned: apply their EXIF orientation first. Only the signature
image_bytes of a SavedModel does it.
"""
