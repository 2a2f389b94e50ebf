"""What benchmark.speed measures, the targets set for it, and both as tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from data.terminal import markdown_table
from experiments.base import MULTI_SCALE

# Implementations. The checkpoint is our model as eval.py runs it, not exported.
OURS, CHECKPOINT, STOCK_KERAS = "ours", "checkpoint", "stock keras"
TORCHVISION, TORCHVISION_COMPILED = "torchvision", "torchvision compiled"
PYTORCH, PYTORCH_COMPILED = "channels_last", "channels_last compiled"  # Its faster memory layout.
OF_PYTORCH = (TORCHVISION, TORCHVISION_COMPILED, PYTORCH, PYTORCH_COMPILED)


class Candidate(NamedTuple):
    """An implementation, and what it overrides in the config."""

    implementation: str
    overrides: Mapping[str, Any] = {}


CANDIDATES = {
    "training": {
        "float32": Candidate(OURS),
        "mixed_bfloat16": Candidate(OURS, {"precision": "mixed_bfloat16"}),
        "torchvision": Candidate(TORCHVISION),
        "torchvision, bfloat16": Candidate(TORCHVISION, {"precision": "mixed_bfloat16"}),
        "torchvision, compiled": Candidate(TORCHVISION_COMPILED),
        "Keras's own layers": Candidate(STOCK_KERAS),
        "rematerialize": Candidate(OURS, {"rematerialize": True}),
        "jit_compile": Candidate(OURS, {"jit_compile": True}),
        "PyTorch, channels_last": Candidate(PYTORCH),
        "PyTorch, channels_last, compiled": Candidate(PYTORCH_COMPILED),
    },
    "inference": {
        "SavedModel": Candidate(OURS),
        "SavedModel, bfloat16": Candidate(OURS, {"precision": "mixed_bfloat16"}),
        "torchvision": Candidate(TORCHVISION),
        "torchvision, bfloat16": Candidate(TORCHVISION, {"precision": "mixed_bfloat16"}),
        "torchvision, compiled": Candidate(TORCHVISION_COMPILED),
        "checkpoint": Candidate(CHECKPOINT),
        "Keras's own layers": Candidate(STOCK_KERAS),
        "six scales": Candidate(CHECKPOINT, {"eval.scales": MULTI_SCALE}),
        "six scales and flip": Candidate(
            CHECKPOINT, {"eval.scales": MULTI_SCALE, "eval.flip": True}
        ),
        "PyTorch, channels_last": Candidate(PYTORCH),
        "PyTorch, channels_last, compiled": Candidate(PYTORCH_COMPILED),
    },
}
PEAK_FLOPS = "peak FLOP/s"  # Measured beside the candidates: a plain 3x3 convolution.
# MB of TensorFlow in PyTorch's processes, which import it with this program: 905 MB after both, 304
# after PyTorch and torchvision alone (2 cores, commit db50da7). Subtracted from reported memory.
TENSORFLOW_MB = 600


class Case(NamedTuple):
    """What is computed, and at which size. crop_size: of the images, which are square."""

    task: str  # A key of CANDIDATES.
    backbone: str
    output_stride: int
    crop_size: int
    batch_size: int

    def __str__(self) -> str:
        return (
            f"{self.task}, {self.backbone}, output stride {self.output_stride}, "
            f"{self.crop_size} x {self.crop_size}, batch size {self.batch_size}"
        )


TRAINING = Case("training", "resnet50", 8, 321, 2)
TRAINING_16 = Case("training", "resnet50", 16, 513, 4)
TRAINING_101 = Case("training", "resnet101", 16, 513, 4)
INFERENCE = Case("inference", "resnet50", 8, 513, 1)
NUM_MAIN = 4  # The first of CANDIDATES: ours and torchvision's, each in two precisions.
# How many of CANDIDATES each case of ResNets measures: most of them in one case per task; elsewhere
# those that fit into 24 GB of memory together.
RESNET_CASES = {
    TRAINING: 7,
    TRAINING_16: NUM_MAIN + 1,
    TRAINING_101: NUM_MAIN,
    Case("training", "resnet101", 8, 321, 2): NUM_MAIN,
    Case("training", "resnet50", 8, 513, 2): NUM_MAIN,
    INFERENCE: 9,
    Case("inference", "resnet50", 16, 513, 1): NUM_MAIN,
    Case("inference", "resnet101", 8, 513, 1): NUM_MAIN,
    Case("inference", "resnet101", 16, 513, 1): NUM_MAIN,
}
MOBILENET_CASES = (
    Case("training", "mobilenet_v2", 16, 257, 8),  # As the scale voc_mobile trains.
    Case("training", "mobilenet_v2", 16, 513, 4),
    Case("inference", "mobilenet_v2", 16, 257, 1),
    Case("inference", "mobilenet_v2", 16, 513, 1),
)
# torchvision has no MobileNetV2 at these output strides: its names in CANDIDATES would mislead.
MOBILENET_CANDIDATES = {
    task: (
        *ours,
        "Keras's own layers",
        "PyTorch, channels_last",
        "PyTorch, channels_last, compiled",
    )
    for task, ours in {"training": ("float32",), "inference": ("SavedModel", "checkpoint")}.items()
}


class Section(NamedTuple):
    """A part of docs/speed.md, and the candidates of each of its cases."""

    title: str
    cases: Mapping[Case, tuple[str, ...]]


SECTIONS = {
    "resnet": Section(
        "ResNets",
        {case: tuple(CANDIDATES[case.task])[:number] for case, number in RESNET_CASES.items()},
    ),
    "mobilenet_v2": Section(
        "MobileNetV2", {case: MOBILENET_CANDIDATES[case.task] for case in MOBILENET_CASES}
    ),
}


class Target(NamedTuple):
    """A bound on a candidate's quantity, relative to that of another candidate."""

    text: str
    case: Case
    quantity: str
    candidate: str
    relative_to: str
    bound: float
    at_least: bool = True


TARGETS = (
    Target(
        "torchvision's training time, relative to our float32's",
        TRAINING, "seconds", "torchvision", "float32", 1.6,
    ),
    Target(
        "the same at output stride 16, crop 513, batch size 4",
        TRAINING_16, "seconds", "torchvision", "float32", 2.3,
    ),
    Target(
        "the same at output stride 16, crop 513, batch size 4, with ResNet-101",
        TRAINING_101, "seconds", "torchvision", "float32", 2.3,
    ),
    Target(
        "torchvision's inference time at 513, relative to our SavedModel's",
        INFERENCE, "seconds", "torchvision", "SavedModel", 1.6,
    ),
    Target(
        "our float32 training time, relative to `mixed_bfloat16`",
        TRAINING, "seconds", "float32", "mixed_bfloat16", 1.4,
    ),
    Target(
        "our float32 inference time at 513, relative to bfloat16",
        INFERENCE, "seconds", "SavedModel", "SavedModel, bfloat16", 1.8,
    ),
    Target(
        "share of peak FLOP/s, float32 inference at 513",
        INFERENCE, "gigaflops", "SavedModel", PEAK_FLOPS, 0.75,
    ),
    Target(
        "share of peak FLOP/s, float32 training",
        TRAINING, "gigaflops", "float32", PEAK_FLOPS, 0.65,
    ),
    Target(
        "our peak memory in training, relative to torchvision's",
        TRAINING, "peak_mb", "float32", "torchvision", 1.0, False,
    ),
    Target(
        "training time with Keras's own layers, relative to ours",
        TRAINING, "seconds", "Keras's own layers", "float32", 3.5,
    ),
)  # fmt: skip


def reported_value(
    measured: Mapping[str, Mapping[str, float]], candidate: str, quantity: str
) -> float:
    """What was measured of a candidate -> the quantity to report: memory without TENSORFLOW_MB."""
    of_torch = candidate.startswith((TORCHVISION, "PyTorch"))
    is_torch_memory = quantity == "peak_mb" and of_torch
    return measured[candidate][quantity] - (TENSORFLOW_MB if is_torch_memory else 0)


def case_rows(case: Case, measured: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """A case and what was measured -> the cells of its table, relative to the first candidate."""
    first = next(iter(measured))
    peak = measured[PEAK_FLOPS]["gigaflops"]
    head = ["", "s per image", "relative time", "peak MB", "relative memory"]
    lines = [[*head, "share of peak FLOP/s"]]
    for name, values in measured.items():
        cells = ["-"] * 4
        if name != PEAK_FLOPS:
            cells = [f"{values['seconds'] / case.batch_size:.3f}"]
            memory = reported_value(measured, name, "peak_mb")
            cells += [f"{values['seconds'] / measured[first]['seconds']:.2f}", f"{memory:.0f}"]
            cells += [f"{memory / reported_value(measured, first, 'peak_mb'):.2f}"]
        lines.append([name, *cells, f"{values['gigaflops'] / peak:.2f}"])
    return lines


def target_rows(cases: Mapping[Case, Mapping[str, Any]]) -> list[list[str]]:
    """Cases and what was measured -> the cells of a table of those TARGETS that were measured."""
    title = "ResNet-50 at output stride 8, crop 321, batch size 2 unless noted"
    lines = [[title, "target", "measured", ""]]
    for target in TARGETS:
        measured = cases.get(target.case, {})
        if not {target.candidate, target.relative_to} <= measured.keys():
            continue
        ratio = reported_value(measured, target.candidate, target.quantity)
        ratio /= reported_value(measured, target.relative_to, target.quantity)
        is_met = ratio >= target.bound if target.at_least else ratio <= target.bound
        bound = f"at {'least' if target.at_least else 'most'} {target.bound:.2f}"
        lines.append([target.text, bound, f"{ratio:.2f}", "met" if is_met else "missed"])
    return lines


def to_markdown(results: Mapping[str, Any]) -> str:
    """The content of results.json -> its sections in Markdown, for docs/speed.md."""
    return "\n\n".join(
        f"## {SECTIONS[name].title}\n\n{section_to_markdown(section)}"
        for name, section in results.items()
    )


def section_to_markdown(results: Mapping[str, Any]) -> str:
    """A section of results.json -> the targets and the cases in Markdown."""
    cases = [(Case(**each["case"]), each) for each in results["cases"]]
    parts = [
        f"{results['cores']} cores ({results['cpu']}), commit {results['commit']}, medians of "
        f"{results['rounds']} interleaved rounds, {results['minutes']:.0f} minutes in total "
        "([json](../benchmark/results.json)):"
    ]
    targets = target_rows({case: each["measured"] for case, each in cases})
    if len(targets) > 1:
        parts.append(markdown_table(targets))
    for case, each in cases:
        work = f"{each['gigamacs']:.1f} G useful multiply-adds per image in the forward pass"
        parts += [
            f"**{str(case).capitalize()}** ({work})",
            markdown_table(case_rows(case, each["measured"])),
        ]
    return "\n\n".join(parts)
