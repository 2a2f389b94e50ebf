"""Segments images with an exported artifact, in a process that cannot import this project.

    python -I deployment/runtimes.py RUNTIME ARTIFACT IMAGES.npz OUT.npz

RUNTIME: a key of RUNTIMES. IMAGES: arrays [H, W, 3] uint8 by name. OUT: [H, W] class ids under the
same names, and seconds [number of images] under the name "seconds": the time of the second call
for each image, since a runtime prepares itself for a new size in the first.
"""

import os
import sys
import time

import numpy as np


def tensorflow(artifact, frozen_weights=True):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # oneDNN then keeps its own copy of each kernel: nothing here changes a weight.
    os.environ["TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"] = str(int(frozen_weights))
    import tensorflow as tf

    loaded = tf.saved_model.load(artifact)
    serve = loaded.signatures["serving_default"]
    return lambda images: serve(images=tf.constant(images))["class_ids"].numpy()


def litert(artifact):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=artifact, num_threads=os.cpu_count())
    given, wanted = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def segment(images):
        if list(interpreter.get_input_details()[0]["shape"]) != list(images.shape):
            interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(wanted["index"])

    return segment


def onnxruntime(artifact):
    from onnxruntime import InferenceSession

    session = InferenceSession(artifact, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]


def openvino(artifact, precision="f32"):
    from openvino import Core

    model = Core().compile_model(artifact, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return lambda images: model(images)[0]


RUNTIMES = {function.__name__: function for function in (tensorflow, litert, onnxruntime, openvino)}


def main(runtime, artifact, images_file, out_file):
    segment = RUNTIMES[runtime](artifact)
    class_ids, seconds = {}, []
    with np.load(images_file) as images:
        for name, image in images.items():
            segment(image[None])
            start = time.perf_counter()
            class_ids[name] = segment(image[None])[0]
            seconds.append(time.perf_counter() - start)
    np.savez(out_file, seconds=np.array(seconds), **class_ids)


if __name__ == "__main__":
    main(*sys.argv[1:])
