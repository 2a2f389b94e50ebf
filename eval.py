r"""Scores a run on a whole split: mIoU, and every score that one confusion matrix per image gives.

    python eval.py --run=runs/shapes/base                       as scored in training
    python eval.py --run=runs/shapes/base --output_stride=8     the same weights, denser features
    python eval.py --run=runs/base --output_stride=8 --scales=0.5,0.75,1,1.25,1.5,1.75 --flip
                                                                the last row of Table 4 and 6
    python eval.py --run=runs/shapes/base --masks=masks         also each prediction, as a PNG
    python eval.py --run=runs/base --split=test --submission=results.tgz
                                                                a test server's file

It writes into the run's folder a JSON (scores and the protocol they belong to), an npz (the pixel
counts of each image, for experiments/compare.py), and a page to look at: eval.json, .npz and .html,
or eval_SPLIT_osN_msSCALES_flip where the split or the inference is not the run's own.
"""

import os

# Before TensorFlow is imported; train.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pathlib

from absl import flags

from evaluation.evaluator import Evaluator
from evaluation.protocol import result_name
from evaluation.scores import report
from evaluation.submission import submit
from experiments import base
from experiments.command_line import (
    define_data_dir,
    define_inference_flags,
    define_run,
    inference_from_flags,
    run_program,
)
from model.deeplabv3 import deeplabv3
from pretrained.import_run import import_run
from training.checkpoints import load_weights
from training.run_folder import read_config, read_data

RUN, INFERENCE, DATA_DIR = define_run(), define_inference_flags(), define_data_dir()
SPLIT = flags.DEFINE_string("split", None, "Split to score. Default: the run's eval split.")
MASKS = flags.DEFINE_string("masks", None, "Folder for the predictions, as ID.png.")
SUBMISSION = flags.DEFINE_string(
    "submission", None, "Only write this file for a test server (VOC: .tgz, Cityscapes: .zip)."
)


def main(_) -> None:
    run = import_run(RUN.value, base.as_data(base.get_config()))
    config = read_config(run)
    own = base.inference_of(config)
    inference = inference_from_flags(INFERENCE, own)
    if SPLIT.value is not None:
        inference["split"] = SPLIT.value
    if not os.access(run, os.W_OK):
        raise PermissionError(f"{run} is not writable, and the scores are written there.")
    if MASKS.value and SUBMISSION.value:
        raise ValueError("--submission writes its own masks: leave --masks out.")
    evaluator = Evaluator(
        deeplabv3(**{**config.model, "output_stride": inference["output_stride"]}),
        backbone=config.model.backbone,
        dataset=config.eval_data.dataset,
        **inference,
        data_dir=DATA_DIR.value,
    )
    evaluator.check_class_names(read_data(run)["class_names"])
    step = load_weights(evaluator.model, run)
    if SUBMISSION.value:
        submit(evaluator, pathlib.Path(SUBMISSION.value))
        print(f"{run}, step {step}: {evaluator.num_images} images -> {SUBMISSION.value}")
        return
    masks = pathlib.Path(MASKS.value) if MASKS.value else None
    result, counts = evaluator.score(step, base.as_data(config), masks)
    name = result_name(inference, own)
    print(report(result))
    evaluator.write(run, name, result, counts)
    scales = ", ".join(f"{scale:g}" for scale in inference["scales"])
    print(
        f"{run}, step {step}: {inference['split']}, output stride {inference['output_stride']}, "
        f"scales {scales}, {'flip' if inference['flip'] else 'no flip'}"
    )
    print(f"-> {run / name}.json, .npz and .html")


if __name__ == "__main__":
    run_program(main)
