"""Table 1: ResNet-50 with block7 at every output_stride; at 256 there is no atrous convolution.

    python train.py --config=experiments/table1.py:os8           paper: 75.18; not run yet
    python train.py --config=experiments/table1.py:os8@shapes    in miniature

The paper does not say how these rows are trained. Our choice: stage 1's protocol with a batch of
16, evaluation at the output_stride of training, and unit rates (1, 1, 1), since 73.88 is in Table 2
too. At smaller scales crops grow with the stride (129 to 257 pixels for shapes), so that features
align with pixels. What exceeds the images is padding, which coarse rows see more of.
"""

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
        shares="table2/resnet50_block7" if output_stride == 16 else "",
    )
    for output_stride, paper_miou in PAPER_MIOUS.items()
}

get_config = base.rows_config("table1", ROWS)
