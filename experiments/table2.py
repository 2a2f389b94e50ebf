r"""Table 2: the depth of the network and the number of blocks in cascade, output_stride 16.

python train.py --config=experiments/table2.py:resnet50_block7
python train.py --config=experiments/table2.py:resnet50_block7@shapes

ResNet-101 is trained as the first line of Table 3. Open, and our choice: the cascade's head is one
1x1 conv, and block5 to block7 start from random weights; so in Tables 1, 3 and 4.
"""

import ml_collections

from experiments import base

PAPER_MIOUS = {  # block4 to block7.
    "resnet50": (64.81, 72.14, 74.29, 73.88),
    "resnet101": (68.39, 73.21, 75.34, 75.76),
}
ROWS = {
    f"{backbone}_block{num_blocks}": base.Row(
        paper_miou,
        {"model.backbone": f"{backbone}_keras", **base.cascade(num_blocks, (1, 1, 1))},
        run=f"table3/mg111_block{num_blocks}" if backbone == "resnet101" else "",
    )
    for backbone, paper_mious in PAPER_MIOUS.items()
    for num_blocks, paper_miou in enumerate(paper_mious, start=4)
}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> that row's config."""
    return base.row_config("table2", ROWS, row)
