"""Checks of a config before anything is built."""

import math

SMALL_BATCH = (
    8  # A smaller one harms batch norm; in Table 9 a batch of 8 costs 1.5 mIoU, 4 costs 13.
)


def check_training(
    *,
    steps: int,
    eval_every: int,
    learning_rate: float,
    backbone_learning_rate_factor: float,
    batch_size: int,
    crop_size: int,
    hard_class_factor: int,
    freeze_batch_norm: bool,
    has_initial_weights: bool,
    num_replicas: int,
    num_classes: int,
) -> None:
    """Fields of a config -> ValueError for the first one whose value is not possible.

    has_initial_weights: whether init_from.path names any. num_replicas: devices that share a batch.
    """
    for name, value in {
        "steps": steps,
        "eval_every": eval_every,
        "batch_size": batch_size,
        "crop_size": crop_size,
        "hard_class_factor": hard_class_factor,
    }.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    if num_classes < 2:
        raise ValueError(
            f"model.num_classes is {num_classes}; it must be at least 2: with one class there is "
            "nothing to learn. Give a data set of one class another one, such as the background."
        )
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate is {learning_rate}; it must be over 0.")
    if not 0 <= backbone_learning_rate_factor < math.inf:
        factor = f"backbone_learning_rate_factor is {backbone_learning_rate_factor}"
        raise ValueError(f"{factor}; it must be 0 or more.")
    if batch_size % num_replicas:
        raise ValueError(
            f"A batch of {batch_size} cannot be shared equally by {num_replicas} devices; choose "
            "another --config.train_data.batch_size."
        )
    if not has_initial_weights and (freeze_batch_norm or backbone_learning_rate_factor < 1):
        raise ValueError(
            "freeze_batch_norm and a backbone_learning_rate_factor below 1 need trained weights. "
            "Name some with --config.init_from.path. For random weights set "
            "--config.freeze_batch_norm=False --config.backbone_learning_rate_factor=1"
        )


def warn_of_small_batch(batch_size: int) -> None:
    """Prints a warning where a batch is too small for batch norm's statistics."""
    if batch_size < SMALL_BATCH:
        print(
            f"warning: batch norm takes its statistics from the {batch_size} images of a batch (of "
            "all devices together), which is few: in Table 9 a batch of 4 ends 13 mIoU below one "
            "of 16. Enlarge --config.train_data.batch_size, or start from trained weights with "
            "--config.freeze_batch_norm.",
            flush=True,
        )
