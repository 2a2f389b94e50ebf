"""Table 10: output_stride in training and in evaluation.

    python train.py --config=experiments/table10.py:train32_eval16     paper: 75.90; not run yet
    python eval.py --run=runs/table10/train32_eval16 --output_stride=8         75.75

One run per output_stride of training is scored twice; the run at 16 is `base`. Batch sizes are
those that fit the authors' memory. ASPP's rates double at 8 and halve at 32. The paper does not say
whether the learning rate changes. Our choice: it does not.
"""

from experiments import base

PAPER_MIOUS = {  # Train output_stride, batch size: at 16 and at 8 in evaluation.
    (8, 6): (74.45, 75.62),
    (16, 16): (77.21, 78.51),
    (32, 24): (75.90, 75.75),
}
OWNERS = {8: "table10/train8_eval8", 16: "base", 32: "table10/train32_eval16"}
ROWS = {
    f"train{train}_eval{evaluation}": base.Row(
        paper_miou,
        {
            "model.output_stride": train,
            "train_data.batch_size": batch_size,
            "eval.output_stride": evaluation,
        },
        shares=OWNERS[train],
    )
    for (train, batch_size), paper_mious in PAPER_MIOUS.items()
    for evaluation, paper_miou in zip((16, 8), paper_mious, strict=True)
}

get_config = base.rows_config("table10", ROWS)
