r"""Scores a run on a whole split: mIoU and the IoU of each class, from one confusion matrix.

    python eval.py --run=runs/shapes/base                       as it was scored in training
    python eval.py --run=runs/shapes/base --output_stride=8     the same weights, denser features

It writes a JSON and a PNG (image, label and prediction) into the run's folder: eval.json and
eval.png, or eval_SPLIT_osN.json and .png where the split or output_stride is not the run's own.
"""

import os

# Before TensorFlow is imported; train.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pathlib

from absl import flags

from experiments.evaluation import Evaluation, report
from experiments.runs import load_weights, read_config
from experiments.terminal import run_program

RUN = flags.DEFINE_string("run", None, "The run's folder, as train.py wrote it.", required=True)
OUTPUT_STRIDE = flags.DEFINE_integer("output_stride", None, "The run's own if not given.")
SPLIT = flags.DEFINE_string("split", None, "The run's own if not given: val, say.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Shards; ~/tensorflow_datasets if not given.")


def main(_) -> None:
    run = pathlib.Path(RUN.value)
    config = read_config(run)
    own = (config.eval_data.split, config.eval.output_stride)
    split = own[0] if SPLIT.value is None else SPLIT.value
    output_stride = own[1] if OUTPUT_STRIDE.value is None else OUTPUT_STRIDE.value
    evaluation = Evaluation(
        config, split=split, output_stride=output_stride, data_dir=DATA_DIR.value
    )
    step = load_weights(evaluation.model, run)
    result = evaluation.score(step)
    name = "eval" if (split, output_stride) == own else f"eval_{split}_os{output_stride}"
    evaluation.write(run, name, result)
    print(report(result))
    print(f"{run}, step {step}, {split}, output_stride {output_stride} -> {run / name}.json")


if __name__ == "__main__":
    run_program(main)
