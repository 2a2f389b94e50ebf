"""What benchmark.speed measures, the targets set for it, and both as tables."""

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmark.turns import MAX_OTHER_LOAD, MAX_SPREAD, ROUNDS
from data.terminal import markdown_table
from experiments.base import MULTI_SCALE

FLOAT32, BFLOAT16 = "float32", "mixed_bfloat16"


class Candidate(NamedTuple):
    """A module of benchmark/ whose process runs it, and how."""

    module: str
    options: Mapping[str, Any] = {}
    environment: Mapping[str, str] = {}
    needs: tuple[str, ...] = ()  # Modules beyond requirements.txt.


def ours(**overrides: Any) -> Candidate:
    """Config fields -> our model, as train.py or eval.py runs it."""
    return Candidate("keras_candidates", {"overrides": overrides})


# glibc's malloc gives memory back to the system after each step; with this it does not.
KEEP_PAGES = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_ARENA_MAX": "1",
}


def pytorch(
    *, compiled=False, freezing=False, channels_last=True, environment=KEEP_PAGES
) -> Candidate:
    """PyTorch's settings -> the candidate."""
    options = {"compiled": compiled, "freezing": freezing, "channels_last": channels_last}
    return Candidate("pytorch_candidates", options, environment, ("torch", "torchvision"))


def runtime(name: str, file_format: str, needs: tuple[str, ...] = (), **options: Any) -> Candidate:
    """A key of deployment.runtimes.RUNTIMES, a format of export.py -> the candidate."""
    how = {"runtime": name, "format": file_format, "options": options}
    return Candidate("runtime_candidates", how, {}, needs)


STOCK_KERAS = {"Keras's own layers": Candidate("keras_candidates", {"stock_keras": True})}
PYTORCH = {"PyTorch": pytorch(), "PyTorch, compiled": pytorch(compiled=True)}
# Its weights are constants then, and batch norm is folded into them: for inference alone.
PYTORCH_FREEZING = {"PyTorch, compiled, freezing": pytorch(compiled=True, freezing=True)}
PYTORCH_DEFAULTS = {
    "PyTorch, default allocator": pytorch(environment={}),
    "PyTorch, default layout": pytorch(channels_last=False),
}
SAVED_MODEL = {
    "SavedModel": runtime("tensorflow", "saved_model", frozen_weights=False),
    "SavedModel, frozen weights": runtime("tensorflow", "saved_model", frozen_weights=True),
}
ONNX = ("tf2onnx", "onnxruntime")
OPENVINO = {"OpenVINO": runtime("openvino", "onnx", (*ONNX, "openvino"))}
RUNTIMES = {
    **OPENVINO,
    "ONNX Runtime": runtime("onnxruntime", "onnx", ONNX),
    "LiteRT": runtime("litert", "litert_float32", ("ai_edge_litert",)),
}
CANDIDATES = {
    "training": {
        "ours": ours(),
        **PYTORCH,
        **STOCK_KERAS,
        "ours, rematerialize": ours(rematerialize=True),
        "ours, pages kept": ours()._replace(environment=KEEP_PAGES),
        **PYTORCH_DEFAULTS,
        "ours, jit_compile": ours(jit_compile=True),
    },
    "inference": {
        **SAVED_MODEL,
        **RUNTIMES,
        **PYTORCH,
        **PYTORCH_FREEZING,
        "checkpoint": ours(),
        **STOCK_KERAS,
        "six scales": ours(**{"eval.scales": MULTI_SCALE}),
        **PYTORCH_DEFAULTS,
        "six scales and flip": ours(**{"eval.scales": MULTI_SCALE, "eval.flip": True}),
    },
}
ONLY_FLOAT32 = ("ONNX Runtime", "LiteRT")  # As export.py writes for them.
PEAK_FLOPS = "peak FLOP/s"  # Measured beside the candidates: a plain 3x3 convolution.


class Case(NamedTuple):
    """What is computed, and at which size. crop_size: of the images, which are square."""

    task: str  # A key of CANDIDATES.
    backbone: str
    output_stride: int
    crop_size: int
    batch_size: int
    precision: str = FLOAT32

    def __str__(self) -> str:
        return (
            f"{self.task}, {self.backbone}, output stride {self.output_stride}, "
            f"{self.crop_size} x {self.crop_size}, batch size {self.batch_size}, {self.precision}"
        )


TRAINING = Case("training", "resnet50", 8, 321, 2)
TRAINING_16 = Case("training", "resnet50", 16, 513, 4)
TRAINING_101 = Case("training", "resnet101", 16, 513, 4)
INFERENCE = Case("inference", "resnet50", 8, 513, 1)
INFERENCE_101 = Case("inference", "resnet101", 8, 513, 1)
MOBILE_INFERENCE = Case("inference", "mobilenet_v2", 16, 513, 1)


def in_bfloat16(case: Case) -> Case:
    """A case -> the same in mixed precision."""
    return case._replace(precision=BFLOAT16)


BESIDE_PYTORCH = ("ours", *PYTORCH)
BESIDE_RUNTIMES = (*SAVED_MODEL, *OPENVINO, *PYTORCH, *PYTORCH_FREEZING)
RESNET_CASES = {
    TRAINING: tuple(each for each in CANDIDATES["training"] if each != "ours, jit_compile"),
    in_bfloat16(TRAINING): BESIDE_PYTORCH,
    TRAINING_16: BESIDE_PYTORCH,
    in_bfloat16(TRAINING_16): BESIDE_PYTORCH,
    TRAINING_101: BESIDE_PYTORCH,
    in_bfloat16(TRAINING_101): BESIDE_PYTORCH,
    INFERENCE: tuple(each for each in CANDIDATES["inference"] if each != "six scales and flip"),
    in_bfloat16(INFERENCE): BESIDE_RUNTIMES,
    INFERENCE._replace(output_stride=16): BESIDE_RUNTIMES,
    INFERENCE_101: BESIDE_RUNTIMES,
}
MOBILE_INFERENCE_CANDIDATES = (
    *SAVED_MODEL,
    *RUNTIMES,
    *PYTORCH,
    *PYTORCH_FREEZING,
    "checkpoint",
    *STOCK_KERAS,
)
MOBILENET_CASES = {
    Case("training", "mobilenet_v2", 16, 257, 8): (*BESIDE_PYTORCH, *STOCK_KERAS),
    Case("training", "mobilenet_v2", 16, 513, 4): (*BESIDE_PYTORCH, *STOCK_KERAS),
    MOBILE_INFERENCE._replace(crop_size=257): MOBILE_INFERENCE_CANDIDATES,
    MOBILE_INFERENCE: MOBILE_INFERENCE_CANDIDATES,
}


class Section(NamedTuple):
    """A part of docs/speed.md, and the candidates of each of its cases."""

    title: str
    cases: Mapping[Case, tuple[str, ...]]


SECTIONS = {
    "resnet": Section("ResNets", RESNET_CASES),
    "mobilenet_v2": Section("MobileNetV2", MOBILENET_CASES),
}


class Target(NamedTuple):
    """A bound on a candidate's time or memory, beside the best of its peers.

    seconds: the best peer's, relative to the candidate's, at least. peak_mib: the candidate's,
    relative to the best peer's, at most; without peers, in MiB.
    """

    text: str
    case: Case
    quantity: str
    candidate: str
    peers: tuple[str, ...]
    bound: float


OF_PYTORCH = (*PYTORCH, *PYTORCH_DEFAULTS)
TRAINING_TIME_BOUNDS = {
    TRAINING: 1.35,
    in_bfloat16(TRAINING): 1.45,
    TRAINING_16: 1.65,
    in_bfloat16(TRAINING_16): 1.7,
    TRAINING_101: 1.35,
    in_bfloat16(TRAINING_101): 1.4,
}
TARGETS = (
    *(
        Target("training time", case, "seconds", "ours", OF_PYTORCH, bound)
        for case, bound in TRAINING_TIME_BOUNDS.items()
    ),
    *(
        Target("training memory", case, "peak_mib", "ours", OF_PYTORCH, 1.0)
        for case in TRAINING_TIME_BOUNDS
    ),
    # Both ways to run a SavedModel, since one has the time and the other one the memory.
    *(
        target
        for name in SAVED_MODEL
        for target in (
            Target("inference time", INFERENCE, "seconds", name, tuple(OPENVINO), 1.0),
            Target("inference time", in_bfloat16(INFERENCE), "seconds", name, tuple(OPENVINO), 1.0),
            Target("inference memory", INFERENCE, "peak_mib", name, (), 900),
            Target("inference memory", INFERENCE_101, "peak_mib", name, (), 1200),
            Target("inference time", MOBILE_INFERENCE, "seconds", name, ("LiteRT",), 0.83),
        )
    ),
    # Keras's layers are not folded either.
    Target("inference time", MOBILE_INFERENCE, "seconds", "checkpoint", tuple(STOCK_KERAS), 1.3),
)

Measured = Mapping[str, Mapping[str, Any]]  # Quantities by candidate.


def relative_time(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """What was measured of two candidates -> the median of the ratios of their turns, in pairs.

    Turns of one round are close in time, so what slows both of them has no part in it.
    """
    return statistics.median(a / b for a, b in zip(ours["turns"], theirs["turns"], strict=True))


def judge(target: Target, measured: Measured) -> tuple[float, str, bool] | None:
    """A target -> its value, the best peer and whether it is met; None where it is not measured."""
    peers = [peer for peer in target.peers if peer in measured]
    if target.candidate not in measured or (target.peers and not peers):
        return None
    value = measured[target.candidate][target.quantity]
    if not target.peers:
        return value, "", value <= target.bound
    best = min(peers, key=lambda peer: measured[peer][target.quantity])
    if target.quantity == "seconds":
        ratio = relative_time(measured[best], measured[target.candidate])
        return ratio, best, ratio >= target.bound
    ratio = value / measured[best][target.quantity]
    return ratio, best, ratio <= target.bound


def target_rows(cases: Mapping[Case, Measured]) -> list[list[str]]:
    """Cases and what was measured -> the cells of a table of those TARGETS that were measured."""
    lines = [["what", "case", "beside", "target", "measured", ""]]
    for target in TARGETS:
        judged = judge(target, cases.get(target.case, {}))
        if judged is None:
            continue
        value, best, is_met = judged
        how = "at least" if target.quantity == "seconds" else "at most"
        form = "{:.2f}" if target.peers else "{:.0f} MiB"
        case = str(target.case).partition(", ")[2]
        what = f"{target.text} of {target.candidate}" if target.candidate != "ours" else ""
        bound, is_met = f"{how} {form.format(target.bound)}", "met" if is_met else "missed"
        lines.append([what or target.text, case, best, bound, form.format(value), is_met])
    return lines


def case_rows(case: Case, measured: Measured) -> list[list[str]]:
    """A case and what was measured -> the cells of its table, relative to the first candidate."""
    first = next(iter(measured.values()))
    peak = measured[PEAK_FLOPS]["gigaflops"]
    head = ["", "s per image", "relative time", "spread %", "peak MiB", "relative memory"]
    lines = [[*head, "share of float32's peak"]]
    for name, values in measured.items():
        cells = ["-"] * 5
        if name != PEAK_FLOPS:
            cells = [
                f"{values['seconds'] / case.batch_size:.3f}",
                f"{relative_time(values, first):.2f}",
                f"{100 * values['spread']:.0f}",
                f"{values['peak_mib']:.0f}",
                f"{values['peak_mib'] / first['peak_mib']:.2f}",
            ]
        lines.append([name, *cells, f"{values['gigaflops'] / peak:.2f}"])
    return lines


def remarks(measured: Measured, other_load: float | None) -> str:
    """What was measured, and the share of CPU time of other load -> what disturbed it, or ""."""
    parts = []
    if noisy := [name for name, values in measured.items() if values["spread"] > MAX_SPREAD]:
        parts.append(
            f"Spread over {100 * MAX_SPREAD:.0f} %, also when repeated: {'; '.join(noisy)}."
        )
    if other_load is not None and other_load > MAX_OTHER_LOAD:
        parts.append(f"The machine was not quiet: other load took {100 * other_load:.0f} %.")
    return " ".join(parts)


def to_markdown(results: Mapping[str, Any]) -> str:
    """The content of results.json -> its sections in Markdown, for docs/speed.md."""
    return "\n\n".join(
        f"## {SECTIONS[name].title}\n\n{section_to_markdown(section)}"
        for name, section in results.items()
    )


def section_to_markdown(results: Mapping[str, Any]) -> str:
    """A section of results.json -> the targets and the cases in Markdown."""
    cases = [(Case(**each["case"]), each) for each in results["cases"]]
    loads = [each["other_load"] for _, each in cases if each["other_load"] is not None]
    load = (
        f"; other load took at most {max(1, round(100 * max(loads)))} % of the CPU time"
        if loads
        else ""
    )
    parts = [
        f"{results['cores']} cores ({results['cpu']}), commit {results['commit']}, medians of "
        f"{ROUNDS} interleaved turns, {results['minutes']:.0f} minutes in total"
        f"{load} ([json](../benchmark/results.json))."
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
        if text := remarks(each["measured"], each["other_load"]):
            parts.append(text)
    return "\n\n".join(parts)
