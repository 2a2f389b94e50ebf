"""The paper's conclusions from its tables, as differences of rows that should be positive."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Claim(NamedTuple):
    """A conclusion of the paper, in short, and the differences that are positive if it holds."""

    text: str
    differences: Sequence[Mapping[str, int]]  # Each: rows of the table -> factors of their mIoU.


def rank(*rows: str) -> list[dict[str, int]]:
    """Rows, the best one first -> the gain of each over the next."""
    return [{better: 1, worse: -1} for better, worse in zip(rows, rows[1:], strict=False)]


def compare_gains(*rows: str) -> list[dict[str, int]]:
    """Rows, each with one more block -> by how much each block gains less than the one before."""
    triples = zip(rows, rows[1:], rows[2:], strict=False)
    return [{before: -1, row: 2, after: -1} for before, row, after in triples]


def block_rows(prefix: str) -> list[str]:
    """`mg121` -> its rows, from block4 to block7."""
    return [f"{prefix}_block{number}" for number in range(4, 8)]


STRATEGIES = [
    Claim("output stride 8 at evaluation beats 16", rank("os8", "os16")),
    Claim("several scales help", rank("os8_ms", "os8")),
    Claim("flip helps", rank("os8_ms_flip", "os8_ms")),
]
CLAIMS = {
    "table1": [
        Claim(
            "a smaller output stride is better",
            rank("os8", "os16", "os32", "os64", "os128", "os256"),
        )
    ],
    "table2": [
        Claim(
            "more blocks are better (the deeper network)", rank(*reversed(block_rows("resnet101")))
        ),
        Claim("margins shrink as blocks are added", compare_gains(*block_rows("resnet101"))),
        Claim("block7 hurts the shallower network", rank("resnet50_block6", "resnet50_block7")),
        Claim(
            "a deeper network is better",
            [
                {f"resnet101_block{number}": 1, f"resnet50_block{number}": -1}
                for number in range(4, 8)
            ],
        ),
    ],
    "table3": [
        Claim(
            "(1, 2, 1) beats (1, 1, 1)",
            [
                {better: 1, worse: -1}
                for better, worse in zip(block_rows("mg121"), block_rows("mg111"), strict=True)
            ],
        ),
        Claim(
            "(1, 2, 1) with block7 is best",
            [
                {"mg121_block7": 1, f"{grid}_block{number}": -1}
                for grid in ("mg111", "mg121", "mg123", "mg124", "mg222")
                for number in range(4, 8)
                if (grid, number) != ("mg121", 7)
            ],
        ),
        Claim("(1, 1, 1) beats (2, 2, 2) (block7)", rank("mg111_block7", "mg222_block7")),
        Claim("more blocks are better (1, 2, 1)", rank(*reversed(block_rows("mg121")))),
    ],
    "table4": STRATEGIES,
    "table5": [
        Claim("(1, 2, 1) beats (1, 1, 1)", rank("mg121", "mg111")),
        Claim("(1, 2, 4) beats (1, 2, 1)", rank("mg124", "mg121")),
        Claim("a fourth, larger rate hurts", rank("mg124", "mg124_rate24")),
        Claim("image pooling helps", rank("mg124_pooling", "mg124")),
    ],
    "table6": [
        *STRATEGIES,
        Claim("pretraining on COCO helps", rank("coco", "os8_ms_flip")),
    ],
    "table8": [
        Claim("a larger crop is better", rank("base", "crop321")),
        Claim("upsampling logits helps", rank("base", "labels_downsampled")),
        Claim("fine-tuning batch norm helps", rank("base", "batch_norm_frozen")),
    ],
    "table9": [Claim("a larger batch is better", rank("batch16", "batch12", "batch8", "batch4"))],
    "table10": [
        Claim(
            "training at 16 and evaluating at 8 is best",
            [
                {"train16_eval8": 1, row: -1}
                for row in (
                    "train8_eval16",
                    "train8_eval8",
                    "train16_eval16",
                    "train32_eval16",
                    "train32_eval8",
                )
            ],
        )
    ],
    "table12": STRATEGIES,
}
