"""Table 2: network depth and number of cascaded blocks, output_stride 16.

    python train.py --config=experiments/table2.py:resnet50_block7           paper: 73.88; not run
    python train.py --config=experiments/table2.py:resnet50_block7@shapes    in miniature

ResNet-101 shares the training of Table 3's first line. The paper leaves open the
head and the initial weights of added blocks. Our choice, in Tables 1, 3 and 4 too: one 1x1 conv,
and block5 to block7 start from random weights.
"""

from experiments import base

PAPER_MIOUS = {  # block4 to block7.
    "resnet50": (64.81, 72.14, 74.29, 73.88),
    "resnet101": (68.39, 73.21, 75.34, 75.76),
}
ROWS = {
    f"{backbone}_block{num_blocks}": base.Row(
        paper_miou,
        {"model.backbone": f"{backbone}_keras", **base.cascade(num_blocks, (1, 1, 1))},
        shares=f"table3/mg111_block{num_blocks}" if backbone == "resnet101" else "",
    )
    for backbone, paper_mious in PAPER_MIOUS.items()
    for num_blocks, paper_miou in enumerate(paper_mious, start=4)
}

get_config = base.rows_config("table2", ROWS)
