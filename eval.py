r"""Scores a run on a whole split: mIoU, and every score that one confusion matrix per image gives.

    python eval.py --run=runs/shapes/base                       as scored in training
    python eval.py --run=runs/shapes/base --output_stride=8     the same weights, denser features
    python eval.py --run=runs/base --output_stride=8 --scales=0.5,0.75,1,1.25,1.5,1.75 --flip
                                                                the last row of Table 4 and 6
    python eval.py --run=runs/shapes/base --checkpoint=best     the best weights, not the last
    python eval.py --run=runs/shapes/base --masks=masks         also each prediction, as a PNG
    python eval.py --run=runs/base --split=test --submission=results.tgz
                                                                a test server's file

It writes into the run's folder a JSON (scores and the protocol they belong to), an npz (the pixel
counts of each image, for experiments/compare.py), and a page to look at: eval.json, .npz and .html,
or eval_SPLIT_osN_msSCALES_flip_CHECKPOINT where they are not the run's own and its last weights.
"""

import os
import pathlib

from absl import flags

from experiments import base
from experiments.command_line import (
    define_checkpoint,
    define_data_dir,
    define_inference_flags,
    define_run,
    inference_from_flags,
    parse_flags,
    run_program,
)

RUN, CHECKPOINT, INFERENCE = define_run(), define_checkpoint(), define_inference_flags()
DATA_DIR = define_data_dir()
SPLIT = flags.DEFINE_string("split", None, "Split to score. Default: the run's eval split.")
MASKS = flags.DEFINE_string("masks", None, "Folder for the predictions, as ID.png.")
SUBMISSION = flags.DEFINE_string(
    "submission", None, "Only write this file for a test server (VOC: .tgz, Cityscapes: .zip)."
)
if __name__ == "__main__":
    ARGUMENTS = parse_flags()  # Before TensorFlow is imported.

from evaluation.evaluator import Evaluator
from evaluation.protocol import result_name
from evaluation.scores import report
from evaluation.submission import submit
from model.deeplabv3 import deeplabv3
from pretrained.import_run import import_run
from training.checkpoints import load_weights
from training.run_folder import read_config, read_data


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
    model = deeplabv3(**{**config.model, "output_stride": inference["output_stride"]})
    step = load_weights(model, run, CHECKPOINT.value)
    print(f"{run}: checkpoint {CHECKPOINT.value}, step {step}", flush=True)
    evaluator = Evaluator(
        model,
        dataset=config.eval_data.dataset,
        **inference,
        data_dir=DATA_DIR.value,
    )
    evaluator.check_class_names(read_data(run)["class_names"])
    if SUBMISSION.value:
        submit(evaluator, pathlib.Path(SUBMISSION.value))
        print(f"{run}, step {step}: {evaluator.num_images} images -> {SUBMISSION.value}")
        return
    result, counts = evaluator.score(
        step,
        base.as_data(config),
        checkpoint=CHECKPOINT.value,
        masks=pathlib.Path(MASKS.value) if MASKS.value else None,
    )
    name = result_name(inference, own, CHECKPOINT.value)
    print(report(result))
    evaluator.write(run, name, result, counts)
    scales = ", ".join(f"{scale:g}" for scale in inference["scales"])
    print(
        f"{run}, step {step}: {inference['split']}, output stride {inference['output_stride']}, "
        f"scales {scales}, {'flip' if inference['flip'] else 'no flip'}"
    )
    print(f"-> {run / name}.json, .npz and .html")


if __name__ == "__main__":
    run_program(main, ARGUMENTS)
