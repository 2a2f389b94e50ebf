"""What experiments.benchmark measures, the goals that are set for it, and both as tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from data.terminal import markdown_table
from experiments.base import MULTI_SCALE

KERAS, TORCHVISION, COMPILED = "keras", "torchvision", "torchvision compiled"  # Whose layers.
CONTENDERS = {  # Whose, and what each has in its config.
    "training": {
        "float32": ("", {}),
        "mixed_bfloat16": ("", {"precision": "mixed_bfloat16"}),
        "torchvision": (TORCHVISION, {}),
        "torchvision, bfloat16": (TORCHVISION, {"precision": "mixed_bfloat16"}),
        "torchvision, compiled": (COMPILED, {}),
        "Keras's own layers": (KERAS, {}),
        "rematerialize": ("", {"rematerialize": True}),
        "jit_compile": ("", {"jit_compile": True}),
    },
    "inference": {
        "SavedModel": ("", {}),
        "SavedModel, bfloat16": ("", {"precision": "mixed_bfloat16"}),
        "torchvision": (TORCHVISION, {}),
        "torchvision, bfloat16": (TORCHVISION, {"precision": "mixed_bfloat16"}),
        "torchvision, compiled": (COMPILED, {}),
        "checkpoint": ("checkpoint", {}),
        "Keras's own layers": (KERAS, {}),
        "six scales": ("checkpoint", {"eval.scales": MULTI_SCALE}),
        "six scales and flip": ("checkpoint", {"eval.scales": MULTI_SCALE, "eval.flip": True}),
    },
}
CEILING = "ceiling"
# MB that PyTorch's processes hold of TensorFlow, which this program imports: 905 MB after both, 304
# after PyTorch and torchvision alone (2 cores, commit db50da7). Taken off wherever memory is told.
TENSORFLOW_MB = 600


class Case(NamedTuple):
    """What is computed, and at which size. crop_size: of the images, which are square."""

    what: str
    backbone: str
    output_stride: int
    crop_size: int
    batch_size: int

    def __str__(self) -> str:
        return (
            f"{self.what}, {self.backbone}, output stride {self.output_stride}, "
            f"{self.crop_size} x {self.crop_size}, batch of {self.batch_size}"
        )


TRAINING = Case("training", "resnet50", 8, 321, 2)
TRAINING_16 = Case("training", "resnet50", 16, 513, 4)
TRAINING_101 = Case("training", "resnet101", 16, 513, 4)
INFERENCE = Case("inference", "resnet50", 8, 513, 1)
FEW = 4  # The first of CONTENDERS: ours and torchvision's, in two precisions.
# Of README's tables, and how many of CONTENDERS each has: most in one case of each kind, elsewhere
# as many as have room in 24 GB of memory together.
CASES = {
    TRAINING: 7,
    TRAINING_16: FEW + 1,
    TRAINING_101: FEW,
    Case("training", "resnet101", 8, 321, 2): FEW,
    Case("training", "resnet50", 8, 513, 2): FEW,
    INFERENCE: None,
    Case("inference", "resnet50", 16, 513, 1): FEW,
    Case("inference", "resnet101", 8, 513, 1): FEW,
    Case("inference", "resnet101", 16, 513, 1): FEW,
}


class Goal(NamedTuple):
    """A bound of a quantity of one contender, in units of another one's."""

    text: str
    case: Case
    quantity: str
    contender: str
    unit: str
    bound: float
    at_least: bool = True


GOALS = (
    Goal(
        "torchvision's time for a training step, in our float32's",
        TRAINING, "seconds", "torchvision", "float32", 1.6,
    ),
    Goal(
        "the same at output stride 16, crop 513, batch 4",
        TRAINING_16, "seconds", "torchvision", "float32", 2.3,
    ),
    Goal(
        "the same with ResNet-101",
        TRAINING_101, "seconds", "torchvision", "float32", 2.3,
    ),
    Goal(
        "torchvision's time for inference at 513, in our SavedModel's",
        INFERENCE, "seconds", "torchvision", "SavedModel", 1.6,
    ),
    Goal(
        "our float32's time for a training step, in `mixed_bfloat16`'s",
        TRAINING, "seconds", "float32", "mixed_bfloat16", 1.4,
    ),
    Goal(
        "the same for inference",
        INFERENCE, "seconds", "SavedModel", "SavedModel, bfloat16", 1.8,
    ),
    Goal(
        "share of the measured ceiling, float32, inference",
        INFERENCE, "gigaflops", "SavedModel", CEILING, 0.75,
    ),
    Goal(
        "share of the measured ceiling, float32, training",
        TRAINING, "gigaflops", "float32", CEILING, 0.65,
    ),
    Goal(
        "peak memory of a training step, in torchvision's",
        TRAINING, "peak_mb", "float32", "torchvision", 1.0, False,
    ),
    Goal(
        "time with Keras's own layers for a training step, in ours",
        TRAINING, "seconds", "Keras's own layers", "float32", 3.5,
    ),
)  # fmt: skip


def told(measured: Mapping[str, Mapping[str, float]], name: str, quantity: str) -> float:
    """A contender's quantity: its memory without what it does not need."""
    needless = TENSORFLOW_MB if quantity == "peak_mb" and name.startswith(TORCHVISION) else 0
    return measured[name][quantity] - needless


def rows(case: Case, measured: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """A case's contenders and what was measured of each -> a table, beside the first of them."""
    first = next(iter(measured))
    ceiling = measured[CEILING]["gigaflops"]
    lines = [["", "s per image", "times as long", "peak MB", "times as much", "of the ceiling"]]
    for name, values in measured.items():
        cells = ["-"] * 4
        if name != CEILING:
            cells = [f"{values['seconds'] / case.batch_size:.3f}"]
            memory = told(measured, name, "peak_mb")
            cells += [f"{values['seconds'] / measured[first]['seconds']:.2f}", f"{memory:.0f}"]
            cells += [f"{memory / told(measured, first, 'peak_mb'):.2f}"]
        lines.append([name, *cells, f"{values['gigaflops'] / ceiling:.2f}"])
    return lines


def goal_rows(cases: Mapping[Case, Mapping[str, Any]]) -> list[list[str]]:
    """Cases and what was measured -> a line for each of GOALS that can be told."""
    lines = [
        ["of ResNet-50 at output stride 8, crop 321, batch 2, if not said", "goal", "seen", ""]
    ]
    for goal in GOALS:
        measured = cases.get(goal.case, {})
        if not {goal.contender, goal.unit} <= measured.keys():
            continue
        seen = told(measured, goal.contender, goal.quantity)
        seen /= told(measured, goal.unit, goal.quantity)
        met = seen >= goal.bound if goal.at_least else seen <= goal.bound
        bound = f"at {'least' if goal.at_least else 'most'} {goal.bound:.2f}"
        lines.append([goal.text, bound, f"{seen:.2f}", "met" if met else "missed"])
    return lines


def in_markdown(result: Mapping[str, Any]) -> str:
    """What the benchmark's JSON holds -> the goals and the cases as Markdown."""
    cases = [(Case(**each["case"]), each) for each in result["cases"]]
    parts = [
        f"{result['cores']} cores ({result['cpu']}), commit {result['commit']}, medians of "
        f"{result['rounds']} rounds in turn, {result['minutes']:.0f} minutes in all "
        "([json](benchmark/results.json)):",
        markdown_table(goal_rows({case: each["measured"] for case, each in cases})),
    ]
    for case, each in cases:
        useful = f"{each['gigamacs']:.0f} G useful multiply-adds per image, forward"
        parts += [
            f"**{str(case).capitalize()}** ({useful})",
            markdown_table(rows(case, each["measured"])),
        ]
    return "\n\n".join(parts)
