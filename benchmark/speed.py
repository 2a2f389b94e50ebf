"""Time and peak memory of a training step or of inference, beside PyTorch, other runtimes, Keras.

    python -m benchmark.speed all           # results.json, docs/speed.md: over an hour, 24 GB
    python -m benchmark.speed mobilenet_v2  # its section of both: 20 minutes, 8 GB; or resnet
    python -m benchmark.speed report        # docs/speed.md alone, from results.json
    python -m benchmark.speed training --backbone=resnet50 --output_stride=16 --crop_size=513
    python -m benchmark.speed inference --candidates="checkpoint;six scales"

Every candidate is a process of its own that uses all cores and imports only what it needs. The
candidates take turns and medians are compared, so that slow changes of the machine affect all of
them alike. Other load does not: on a busy machine PyTorch's threads wait for each other. The share
of other load is measured, and turns whose quartiles are over 10% apart are repeated, up to twice.
Ratios are relative to the first candidate. Images, labels, depth, output stride and ASPP's rates
are the same for all. Candidates whose libraries are missing are skipped: requirements-extras.txt
has them.

PyTorch's networks are torchvision's of the same depth, and our MobileNetV2 in PyTorch's layers, the
same function. torchvision's has one more 3x3 conv, no multi-grid, and its strides in the first unit
of a block: 3 to 8% more multiply-adds, which its share of peak FLOP/s does not count.

Peak FLOP/s are those of a float32 3x3 convolution from 512 to 512 channels on 65 x 65 features,
measured in the same turns; bfloat16 may exceed them. A candidate's share of it counts useful
multiply-adds only: taps of atrous convolutions that fall on padding are left out, and a training
step counts as three forward passes.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmark.cases import (
    BFLOAT16,
    CANDIDATES,
    FLOAT32,
    INFERENCE,
    ONLY_FLOAT32,
    PEAK_FLOPS,
    SECTIONS,
    TRAINING,
    Candidate,
    Case,
    case_rows,
    remarks,
    target_rows,
    to_markdown,
)
from benchmark.turns import Job, Turns, measure, start
from data.terminal import errors_in_a_line, make_parser, parse_early, table


def define_command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = make_parser("benchmark.speed", __doc__)
    tasks = (*CANDIDATES, *SECTIONS, "all", "report")
    parser.add_argument("task", choices=tasks, help="a single case, or the cases of the docs")
    case = parser.add_argument_group("a single case, of training or inference")
    case.add_argument("--backbone", help="of model.backbones.BACKBONES (default: resnet50)")
    case.add_argument("--output_stride", type=int, help="default: 8")
    case.add_argument("--crop_size", type=int, help="default: 321 in training, 513 in inference")
    case.add_argument("--batch_size", type=int, help="default: 2 in training, 1 in inference")
    case.add_argument("--precision", choices=(FLOAT32, BFLOAT16), help=f"default: {FLOAT32}")
    case.add_argument("--candidates", help="separated by `;`; the first is the reference")
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        help="JSON file; for all and sections, in place of results.json and docs/speed.md",
    )
    return parser


if __name__ == "__main__":
    parse_early(define_command_line())  # Before TensorFlow is imported.

from benchmark.keras_candidates import config_of, peak_operations
from data.files import between_markers, write_json, write_text
from deployment.formats import FORMATS
from evaluation.protocol import code_version
from experiments.cost import useful_multiply_adds
from model.backbones import BACKBONES, windows
from model.mobilenet import MOBILENETS, STEM_WIDTH, mobilenet_plan, scale_width

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmark" / "results.json"
PAGE = ROOT / "docs" / "speed.md"
CASE_FLAGS = Case._fields[1:]
VECTOR_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
MARKERS = ("<!-- speed: made by python -m benchmark.speed -->", "<!-- end of speed -->")


def find(case: Case, candidate: str) -> Candidate:
    """A candidate's name -> how it runs a case."""
    found = CANDIDATES[case.task][candidate]
    if candidate == "OpenVINO" and case.precision == BFLOAT16:
        options = {**found.options, "options": {"precision": "bf16"}}
        return found._replace(options=options)
    return found


def make_job(case: Case, candidate: str, exports: pathlib.Path) -> Job:
    """A candidate's name -> its job. exports: where request_exports has them written."""
    if candidate == PEAK_FLOPS:
        return Job("benchmark.keras_candidates", {})
    module, options, environment, _ = find(case, candidate)
    size = (case.batch_size, case.crop_size, case.crop_size)
    arguments: dict[str, Any] = {"size": size}
    if module == "keras_candidates":
        arguments = {"case": case, **options}
    elif module == "pytorch_candidates":
        arguments |= {"network": pytorch_arguments(case), "precision": case.precision, **options}
        arguments |= {"training": case.task == "training", "num_classes": num_classes(case)}
    else:
        name = options["format"]
        arguments |= {"runtime": options["runtime"], "options": options["options"]}
        arguments["artifact"] = str(exports / name / FORMATS[name].file)
    return Job(f"benchmark.{module}", arguments, environment)


def num_classes(case: Case) -> int:
    """A case -> the number of its classes."""
    return config_of(case).model.num_classes


def pytorch_arguments(case: Case) -> dict[str, Any]:
    """A case -> the arguments of its network in PyTorch (benchmark.pytorch_candidates).

    Raises ValueError if torchvision does not have it.
    """
    if case.backbone in MOBILENETS:
        facts = MOBILENETS[case.backbone]
        plan = mobilenet_plan(facts.depth_multiplier, output_stride=case.output_stride)
        return {
            "stem": scale_width(STEM_WIDTH, facts.depth_multiplier),
            "units": [unit._asdict() for unit in plan],
            "filters": facts.aspp_filters,
            "num_classes": num_classes(case),
        }
    depth = case.backbone.partition("_")[0]
    if depth not in ("resnet50", "resnet101") or case.output_stride not in (8, 16):
        raise ValueError(
            f"torchvision has no {case.backbone} at output_stride {case.output_stride}; choose "
            "other --candidates."
        )
    return {
        "depth": depth,
        "output_stride": case.output_stride,
        "atrous_rates": config_of(case).model.atrous_rates,
        "num_classes": num_classes(case),
    }


def request_exports(case: Case, candidates: Sequence[str], folder: pathlib.Path) -> None:
    """A process of its own, whose memory does not count, writes what the candidates read."""
    options = [find(case, name).options for name in candidates]
    formats = sorted({each["format"] for each in options if "format" in each})
    if not formats:
        return
    job = {"case": case, "exports": formats, "folder": str(folder)}
    process = start(Job("benchmark.keras_candidates", job))
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"error: {', '.join(formats)} could not be exported; see above. {output}")


def count_operations(case: Case, candidate: str) -> int:
    """A candidate -> the useful operations of one step, two per multiply-add."""
    if candidate == PEAK_FLOPS:
        return peak_operations()
    overrides = find(case, candidate).options.get("overrides", {})
    work = useful_multiply_adds(config_of(case, overrides), case.crop_size)
    return 2 * case.batch_size * work * (3 if case.task == "training" else 1)


def default_candidates(case: Case) -> list[str]:
    """A case -> the candidates that are measured unless others are requested."""
    for section in SECTIONS.values():
        if case in section.cases:
            return list(section.cases[case])
    names = CANDIDATES[case.task]
    return [n for n in names if not (case.precision == BFLOAT16 and n in ONLY_FLOAT32)]


def select_candidates(case: Case, requested: str | None) -> list[str]:
    """Names with ; between, or None for all of the case -> a list. Raises ValueError if unknown."""
    available = CANDIDATES[case.task]
    if requested:
        names = requested.split(";")
        if unknown := [name for name in names if name not in available]:
            raise ValueError(f"No candidate {unknown[0]!r}; there are {'; '.join(available)}.")
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{repeated[0]!r} is named twice.")
        if case.precision == BFLOAT16 and (fixed := [n for n in names if n in ONLY_FLOAT32]):
            raise ValueError(f"{fixed[0]} runs float32 exports alone; leave --precision out.")
    else:
        names = default_candidates(case)
    needed = sorted({module for name in names for module in available[name].needs})
    if missing := [module for module in needed if importlib.util.find_spec(module) is None]:
        message = f"{', '.join(missing)} (pip install -r requirements-extras.txt)"
        if requested:
            raise ValueError(f"--candidates needs what is missing: {message}")
        print(f"Missing, and skipped: {message}")
    return [name for name in names if not set(available[name].needs) & set(missing)]


def processor_name() -> str:
    """This machine's processor: its name, family, model, and the vectors that oneDNN asks for."""
    file = pathlib.Path("/proc/cpuinfo")
    facts = dict(
        re.findall(r"^([^\t\n]+)\t*: (.*)$", file.read_text() if file.exists() else "", re.M)
    )
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    vectors = ", ".join(name for name in VECTOR_FLAGS if name in flags)
    return f"{facts['model name']}, family {facts['cpu family']}, model {facts['model']}: {vectors}"


def measure_case(case: Case, requested: str | None) -> dict[str, Any]:
    """A case -> its part of results.json."""
    names = select_candidates(case, requested)
    with tempfile.TemporaryDirectory() as folder:
        request_exports(case, names, pathlib.Path(folder))
        jobs = {name: make_job(case, name, pathlib.Path(folder)) for name in (*names, PEAK_FLOPS)}
        turns, other_load = measure(jobs)
    measured = {name: describe(case, name, each) for name, each in turns.items()}
    work = useful_multiply_adds(config_of(case), case.crop_size)
    facts = {"case": case._asdict(), "gigamacs": work / 1e9, "other_load": other_load}
    return {**facts, "measured": measured}


def describe(case: Case, candidate: str, turns: Turns) -> dict[str, Any]:
    """A candidate's turns -> its part of results.json."""
    median = statistics.median(turns.seconds)
    return {
        "seconds": median,
        "spread": turns.spread,
        "turns": turns.seconds,
        "peak_mib": turns.peak_mib,
        "gigaflops": count_operations(case, candidate) / median / 1e9,
    }


def measure_cases(cases: Sequence[Case], requested: str | None, commit: str) -> dict[str, Any]:
    """Measures cases one after another, prints a table of each, and returns all of them."""
    start_time, done = time.monotonic(), []
    for number, case in enumerate(cases, start=1):
        print(f"\n{case} ({number} of {len(cases)})", flush=True)
        done.append(measure_case(case, requested))
        measured, load = done[-1]["measured"], done[-1]["other_load"]
        print(table(case_rows(case, measured)), remarks(measured, load), sep="\n", flush=True)
    targets = target_rows({Case(**each["case"]): each["measured"] for each in done})
    if len(targets) > 1:
        print(f"\n{table(targets)}")
    about = {"cores": os.cpu_count(), "cpu": processor_name(), "commit": commit}
    return {**about, "minutes": (time.monotonic() - start_time) / 60, "cases": done}


def measure_sections(names: Sequence[str], output: pathlib.Path | None) -> None:
    """Measures sections and writes them into a new file, or in place of those in results.json."""
    results = {} if output else json.loads(RESULTS.read_text())
    commit = code_version()  # Before the first section is written, which would change it.
    for name in names:
        results[name] = measure_cases(list(SECTIONS[name].cases), None, commit)
        write_json(output or RESULTS, results)


def write_docs() -> None:
    """Writes the tables of results.json into docs/speed.md, between its markers."""
    part = to_markdown(json.loads(RESULTS.read_text()))
    write_text(PAGE, between_markers(PAGE.read_text(), part, MARKERS))
    print(f"-> {PAGE.relative_to(ROOT)}")


def case_of(arguments: argparse.Namespace) -> Case:
    """The command line of a single case -> the case. Raises ValueError if it is not possible."""
    default = {"training": TRAINING, "inference": INFERENCE}[arguments.task]
    given = {name: getattr(arguments, name) for name in CASE_FLAGS}
    case = default._replace(**{name: value for name, value in given.items() if value is not None})
    if case.backbone not in BACKBONES:
        raise ValueError(f"No backbone {case.backbone!r}; there are {', '.join(BACKBONES)}.")
    for name in ("crop_size", "batch_size"):
        if getattr(case, name) < 1:
            raise ValueError(f"--{name} is {getattr(case, name)}; it must be at least 1.")
    plan = {"num_blocks": 4, "multi_grid": config_of(case).model.multi_grid}
    windows(case.backbone, output_stride=case.output_stride, **plan)  # Raises if it has none.
    return case


def main() -> None:
    arguments = define_command_line().parse_args()
    with errors_in_a_line():
        if arguments.task in CANDIDATES:
            results = measure_cases([case_of(arguments)], arguments.candidates, code_version())
            if arguments.output:
                write_json(arguments.output, results)
            return
        for name in (*CASE_FLAGS, "candidates"):
            if getattr(arguments, name) is not None:
                raise ValueError(f"--{name} is for a single case: training or inference.")
        if arguments.task == "report" and arguments.output:
            raise ValueError("report writes docs/speed.md; it has no --output.")
        sections = {"all": list(SECTIONS), "report": []}.get(arguments.task, [arguments.task])
        measure_sections(sections, arguments.output)
        if not arguments.output:
            write_docs()


if __name__ == "__main__":
    main()
