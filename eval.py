r"""Scores a run on a whole split: mIoU, and all else that one confusion matrix per image gives.

    python eval.py --run=runs/shapes/base                       as it was scored in training
    python eval.py --run=runs/shapes/base --output_stride=8     the same weights, denser features
    python eval.py --run=runs/base --output_stride=8 --scales=0.5,0.75,1,1.25,1.5,1.75 --flip
                                                                the last row of Table 4 and 6
    python eval.py --run=runs/shapes/base --masks=masks         each prediction too, as a PNG
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

from evaluation.evaluator import Evaluation
from evaluation.protocol import as_scales, inference_of, result_name
from evaluation.scores import report
from experiments.command_line import run_program
from pretrained.import_run import as_run
from training.checkpoints import load_weights
from training.run_folder import read_config, read_data

RUN = flags.DEFINE_string(
    "run", None, "The run's folder; or others' model, see README.", required=True
)
SPLIT = flags.DEFINE_string("split", None, "The run's own if not given: val, say.")
OUTPUT_STRIDE = flags.DEFINE_integer("output_stride", None, "The run's own if not given.")
SCALES = flags.DEFINE_list("scales", None, "Of the image, 0.5,1,1.5 say; the run's if not given.")
FLIP = flags.DEFINE_bool("flip", None, "Whether mirrored too; as the run if not given.")
MASKS = flags.DEFINE_string("masks", None, "A folder in which to leave predictions as ID.png.")
SUBMISSION = flags.DEFINE_string(
    "submission", None, "Writes this file for a test server (VOC: .tgz, Cityscapes: .zip) alone."
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Shards; ~/tensorflow_datasets if not given.")


def main(_) -> None:
    run = as_run(RUN.value)
    config = read_config(run)
    own = inference_of(config)
    asked = {
        "split": SPLIT.value,
        "output_stride": OUTPUT_STRIDE.value,
        "scales": None if SCALES.value is None else as_scales(SCALES.value),
        "flip": FLIP.value,
    }
    how = {**own, **{name: value for name, value in asked.items() if value is not None}}
    if not os.access(run, os.W_OK):
        raise PermissionError(f"{run} cannot be written to, and that is where the scores go.")
    if MASKS.value and SUBMISSION.value:
        raise ValueError("--submission writes its own pictures: leave --masks out.")
    evaluation = Evaluation(config, **how, data_dir=DATA_DIR.value)
    evaluation.check_class_names(read_data(run)["class_names"])
    step = load_weights(evaluation.model, run)
    if SUBMISSION.value:
        evaluation.submit(pathlib.Path(SUBMISSION.value))
        print(f"{run}, step {step}: {evaluation.num_images} images -> {SUBMISSION.value}")
        return
    result = evaluation.score(step, masks=pathlib.Path(MASKS.value) if MASKS.value else None)
    name = result_name(how, own)
    print(report(result))
    evaluation.write(run, name, result)
    print(f"{run}, step {step}, {', '.join(f'{k} {v}' for k, v in how.items())}")
    print(f"-> {run / name}.json, .npz and .html")


if __name__ == "__main__":
    run_program(main)
