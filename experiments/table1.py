r"""Table 1: ResNet-50 with block7 at every output_stride; at 256 there is no atrous convolution.

python train.py --config=experiments/table1.py:os8
python train.py --config=experiments/table1.py:os256@shapes

Open, and our choice: it is trained by stage 1's protocol, with a batch of 16 at each output_stride,
and evaluated at that same one; unit rates are (1, 1, 1), since 73.88 stands in Table 2 too. At a
smaller scale crops grow with the stride (81 to 257 pixels for shapes), to which the coarse rows
owe, if anything, a better number.
"""

import ml_collections

from experiments import base

PAPER_MIOUS = {8: 75.18, 16: 73.88, 32: 70.06, 64: 59.99, 128: 42.34, 256: 20.29}
ROWS = {
    f"os{output_stride}": base.Row(
        paper_miou,
        {
            "model.backbone": "resnet50_keras",
            **base.cascade(7, (1, 1, 1)),
            "model.output_stride": output_stride,
            "eval.output_stride": output_stride,
        },
        run="table2/resnet50_block7" if output_stride == 16 else "",
    )
    for output_stride, paper_miou in PAPER_MIOUS.items()
}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> that row's config."""
    return base.row_config("table1", ROWS, row)
