"""The commands of README.md and docs/ work as they are written.

They are taken from the Markdown and run by bash from the root of a copy of the repository, where
the quick start has left a run. Those that cannot be run here are parsed by their programs. What is
in neither dictionary below is run, so that a new command is tested as soon as it is written.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from data import shapes
from data.build import build
from tests.conftest import ROOT
from tests.preloaded_python import start_server
from tests.programs_test import SMALL

FILES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
BASH = shutil.which("bash")
LANGUAGES = {"sh", "python", "text"}  # Of which `text` is not run.
QUICK_START = "pip install -r requirements.txt && python train.py"
TESTS = "pip install -r requirements.txt && python -m pytest"
TWICE = "python -m data.build folder/pets --manual_dir=pets"  # It proposes classes, then builds.

# What is only parsed, and why. Where it needs what is not here, its comment must say so.
VOC = "needs VOC 2012"
SUITE = "it would start the tests from within the tests"
ENVIRONMENT = "it would change the environment that the tests run in"
PARSED = {
    TESTS: SUITE,
    "python -m pytest": SUITE,
    "python -m pytest -m slow": SUITE,
    "python -m pytest tests/tables_test.py": SUITE,
    "bash .ci/run": "needs a download; " + SUITE,
    "python3.11 -m venv .venv": ENVIRONMENT,
    ". .venv/bin/activate": ENVIRONMENT,
    "pip install -r requirements.txt": "needs a download; " + ENVIRONMENT,
    "pip install -r requirements-extras.txt": "needs a download; " + ENVIRONMENT,
    "pip install -e .": "needs a download; " + ENVIRONMENT,
    "pip install -r requirements-gpu.txt": "needs a download; " + ENVIRONMENT,
    "pip install -r requirements-tpu.txt": "needs a TPU VM",
    "python -m data.build voc2012": "needs a download of 5.3 GB",
    "python -m data.build voc2012 --manual_dir=originals": VOC,
    "python -m data.build coco_voc21/per_region --manual_dir=originals": "needs COCO",
    "python -m data.build cityscapes --manual_dir=originals": "needs Cityscapes",
    "python -m data.audit voc2012": VOC,
    "python -m data.audit voc2012 --manual_dir=originals": VOC,
    "python -m benchmark.input_pipeline voc2012 --split=trainaug": VOC,
    "python -m benchmark.speed all": "needs an hour of an idle machine",
    "python -m benchmark.speed mobilenet_v2": "needs ten minutes of an idle machine",
    "python train.py --config=experiments/base.py": VOC,
    "python train.py --config=experiments/base.py --config.init_from.path=": VOC,
    "python train.py --config=experiments/table3.py:mg121_block7": VOC,
    "python train.py --config=experiments/table5.py:mg111@voc_small": VOC,
    "python train.py --data=folder/pets": "needs as long as 675 steps at crop 257 take",
    "python train.py --data=folder/pets --scale=voc_mobile": "needs a download",
    "python train.py --data=folder/pets "
    "--config.init_from.path=deeplabv3_mnv2_pascal_quant.tflite "
    "--config.init_from.part=without_logits": "needs the file",
    "python predict.py --run=runs/pets photo.jpg": "needs that run",
    "python train.py --config=experiments/base.py --config.model.backbone=resnet50_torchvision "
    "--config.init_from.path=resnet50-11ad3fa6.pth": "needs torchvision's file",
    "python train.py --config=experiments/base.py --config.model.backbone=resnet101_torchvision "
    "--config.model.head=torchvision --config.model.multi_grid='(1,1,1)' "
    "--config.init_from.path=deeplabv3_resnet101_coco-586e9e4e.pth "
    "--config.init_from.part=whole": "needs torchvision's file",
    "python predict.py --run=deeplabv3_resnet101_coco-586e9e4e.pth photo.jpg": (
        "needs torchvision's file"
    ),
    "python eval.py --run=deeplabv3_resnet101_coco-586e9e4e.pth": "needs torchvision's file",
    "python train.py --config=experiments/base.py:voc_mobile": VOC,
    "python train.py --config=experiments/base.py:voc_mobile "
    "--config.init_from.path=mobilenet_v2_1.0_224_quant.tflite": VOC,
    "python train.py --config=experiments/base.py:voc_mobile --config.init_from.path= "
    "--config.init_from.part=whole --config.backbone_learning_rate_factor=1 "
    "--config.freeze_batch_norm=False --config.learning_rate=0.05": VOC,
    "python predict.py --run=deeplabv3_mnv2_pascal_quant.tflite photo.jpg": "needs the file",
    "python eval.py --run=deeplabv3_mnv2_pascal_quant.tflite": "needs the file",
    "python eval.py --run=deeplabv3_mnv2_pascal_quant.tflite --output_stride=8": "needs the file",
    "python export.py --run=deeplabv3_mnv2_pascal_quant.tflite --output_stride=8": (
        "needs the file"
    ),
    "python eval.py --run=runs/base --split=test --submission=results.tgz": VOC,
    "srun --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 "
    "python train.py --config=experiments/base.py": "needs a Slurm cluster",
    "python -m tests.slurm_cluster srun --nodes=2 hostname": "needs Slurm and munge",
    'TF_CONFIG=\'{"cluster": {"worker": ["one:2222", "two:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\' '
    "python train.py --config=experiments/base.py --workdir=shared/base": "needs two machines",
    "python train.py --config=experiments/base.py --tpu=local "
    "--config.precision=mixed_bfloat16": "needs a TPU VM",
    'docker run -p 8501:8501 -v "$PWD/deeplabv3:/models/deeplabv3" '
    "-e MODEL_NAME=deeplabv3 tensorflow/serving": "needs Docker",
    '(printf \'{"signature_name": "image_bytes", "instances": [{"b64": "\'; '
    "base64 < photo.jpg | tr -d '\\n'; printf '\"}]}') | "
    "curl -d @- http://localhost:8501/v1/models/deeplabv3:predict": "needs the server",
    "python -m experiments.run table1 table4 table5 table6 --scale=shapes": (
        "needs as long as twelve quick starts take"
    ),
    "python -m experiments.run table5:mg111 table9:batch4 --scale=shapes --runs=again": (
        "needs ten minutes"
    ),
    "python -m experiments.run table1:os8 table1:os16 table1:os32 --scale=shapes": (
        "needs as long as three quick starts take"
    ),
    "python -m experiments.illustrate": "needs those three training runs",
}

# What is run with -m slow, and parsed otherwise.
SLOW = {
    QUICK_START,
    "python train.py --config=experiments/table5.py:mg111@shapes",
    "python train.py --config.steps=300 --workdir=runs/short",
    "python train.py --config.steps=300 --config.learning_rate=0.02 --workdir=runs/mine",
    "python train.py --config.init_from.path=runs/shapes/base --config.steps=300 "
    "--workdir=runs/finetuned",
    "python train.py --config=experiments/protocols.py:stage2@shapes --config.steps=300 "
    "--workdir=runs/stage2",
    "python eval.py --run=runs/shapes/base",
    "python eval.py --run=runs/shapes/base --masks=masks",
    "python eval.py --run=runs/shapes/base --output_stride=8 "
    "--scales=0.5,0.75,1,1.25,1.5,1.75 --flip",
    "python -m experiments.run table3 --scale=voc_small --seeds=3 --dry_run",
    "python -m experiments.cost table6",
    "python -m experiments.cost table1 --scale=shapes --calibrate",
    "python export.py --run=runs/shapes/base --output_stride=8 --flip "
    "--format=saved_model,litert_int8,onnx",
    "python export.py --run=runs/shapes/base --format=onnx --size=513,513",
    "python export.py --run=runs/shapes/base --format=litert_float32 --size=513,513",
}

# What parsing must not let pass.
WRONG = (
    "python trian.py",
    "python train.py --wrokdir=runs/short",
    "python train.py --config=experiments/table5.py:mg111@tiny",
    "python train.py --config=experiments/table5.py:mg112",
    "python train.py --config.step=300",
    "python eval.py --run=runs/base test",
    "python eval.py --split=test",
    "python -m data.bild voc2012",
    "python -m data.build --manual_dir=originals",
    "python -m experiments.run table1:os9 --scale=shapes",
    "python -m experiments.run table1 --scale=shape",
    "python -m benchmark.speed everything",
    "python -m pytest tests/table_test.py",
    "python -m pytest -m slowly",
    "pip install -r requirements-cpu.txt && python train.py",
    "pip instal -r requirements.txt",
    "bash .ci/runs",
    "srun --nodes=2 python train.py --tpus=local",
    """(printf '{"instances": ['; printf ']') | curl -d @- http://localhost:8501""",
)

# Programs that take the place of others where a command is only parsed.
STAND_INS = {
    "srun": 'while [[ $1 == -* ]]; do shift; done; exec "$@"',
    "bash": 'exec {bash} -n "$@"',
    "pip": """
[[ $1 == install ]] || exit 2
while shift && (($#)); do
    if [[ $1 == -r ]]; then test -f "$2" || exit 2; fi
    if [[ $1 == -e ]]; then test -f "$2/pyproject.toml" || exit 2; fi
done""",
    "python3.11": """
if [[ "$1 $2" == "-m venv" ]]; then mkdir -p "$3/bin" && touch "$3/bin/activate"
else exec python "$@"; fi""",
    "docker": "[[ $1 == run ]]",
    "curl": "exec {python} -m json.tool - /dev/null",  # What it sends is JSON.
}


class Command(NamedTuple):
    """A line of an sh block, or a whole python block."""

    language: str
    text: str  # Without its comment.
    comment: str


def blocks(markdown: str) -> Iterator[tuple[str, str]]:
    """Markdown -> the language and the text of each fenced block."""
    language, lines = None, []
    for line in markdown.splitlines():
        fence = re.fullmatch(r"\s*(```+|~~~+)(.*)", line)
        if not fence:
            lines.append(line)
        elif language is None:
            language, lines = fence[2], []
            if fence[1] != "```" or language not in LANGUAGES:
                raise ValueError(f"{line!r} is not a fence of {', '.join(sorted(LANGUAGES))}.")
        else:
            yield language, "\n".join(lines)
            language = None
    if language is not None:
        raise ValueError("A fence is not closed.")


def commands_of(markdown: str) -> list[Command]:
    commands = []
    for language, text in blocks(markdown):
        if language == "python":
            commands.append(Command(language, text, ""))
        elif language == "sh":
            for line in text.replace("\\\n", "").splitlines():
                command, _, comment = re.sub(r"(^|\s+)# ", "\0", line, count=1).partition("\0")
                if command:
                    commands.append(Command(language, command.strip(), comment))
    return commands


def promised_paths(comment: str) -> list[str]:
    """A command's comment -> the files and folders that the command writes."""
    return re.findall(r"\w[^\s,]*/[^\s,]*", comment.partition("writes")[2])


COMMANDS = {file: commands_of((ROOT / file).read_text()) for file in FILES}


def test_what_is_not_run_is_in_the_documentation():
    """What is no longer there is deleted from the dictionaries, too."""
    documented = {command.text for commands in COMMANDS.values() for command in commands}
    assert PARSED.keys() | SLOW | {TWICE} <= documented
    assert not PARSED.keys() & SLOW


@pytest.mark.parametrize("file", FILES)
def test_a_command_says_what_it_needs(file):
    """Whoever pastes a command that cannot work on their machine has been told."""
    for command in COMMANDS[file]:
        if PARSED.get(command.text, "").startswith("needs"):
            assert "needs" in command.comment, command.text


def test_the_readme_is_short_and_its_two_promises_stand_alone():
    """`.ci/run` reads the second one."""
    markdown = (ROOT / "README.md").read_text()
    assert len(markdown.encode()) < 12 * 1024
    assert {("sh", QUICK_START), ("sh", TESTS)} <= set(blocks(markdown))


@pytest.mark.parametrize("markdown", ["```\nls\n```", "```bash\nls\n```", "```sh\nls", "~~~\n~~~"])
def test_a_block_of_an_unknown_kind_is_an_error(markdown):
    """Its commands would never be run."""
    with pytest.raises(ValueError, match="fence"):
        list(blocks(markdown))


def test_comments_and_continued_lines():
    text = "```sh\na '#1' \\\n  --b    # needs c\n# alone\n\nd && e\n```\n```python\nf\n```"
    assert commands_of(text) == [
        ("sh", "a '#1'   --b", "needs c"),
        ("sh", "d && e", ""),
        ("python", "f", ""),
    ]


def test_the_paths_that_a_comment_promises():
    assert promised_paths("needs a/b; writes JSONs to c/d/, and e/f.html") == ["c/d/", "e/f.html"]
    assert promised_paths("writes the tables below") == promised_paths("lists a/b") == []


@pytest.fixture(scope="module")
def programs() -> Iterator[pathlib.Path]:
    """A folder with bin/python, which starts at once, and stand_ins/."""
    with tempfile.TemporaryDirectory() as name:  # pytest's paths are too long for a socket.
        folder = pathlib.Path(name)
        (folder / "bin").mkdir()
        (folder / "stand_ins").mkdir()
        for program, script in STAND_INS.items():
            script = script.replace("{bash}", BASH).replace("{python}", sys.executable)
            (folder / "stand_ins" / program).write_text(f"#!{BASH}\n{script}\n")
        for file in folder.glob("*/*"):
            file.chmod(0o755)
        with start_server(folder / "bin"):
            yield folder


class Copy(NamedTuple):
    """A copy of the repository, and what its commands find around them."""

    root: pathlib.Path
    data_dir: pathlib.Path
    programs: pathlib.Path

    def bash(self, *arguments: str, parse_only: bool = False) -> tuple[int, str]:
        """Runs bash from the copy's root -> its exit code and all its output."""
        path = [self.programs / "bin", pathlib.Path(sys.executable).parent, os.environ["PATH"]]
        environment = {**os.environ, "TFDS_DATA_DIR": str(self.data_dir)}
        environment.pop("PYTHONPATH", None)
        if parse_only:
            path.insert(0, self.programs / "stand_ins")
            environment["PARSE_ONLY"] = "1"
        result = subprocess.run(
            [BASH, "-c", *arguments],
            cwd=self.root,
            env={**environment, "PATH": ":".join(map(str, path))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return result.returncode, result.stdout

    def failure(self, command: Command, *, parse_only: bool = False) -> str:
        """Runs a command, as it is written -> what went wrong, "" if nothing did."""
        arguments = [command.text]
        if command.language == "python":
            arguments = ['python -c "$0"', command.text]
        if command.text == TWICE:
            code, out = self.bash(*arguments)
            if code != 0 or "pets/classes.json" not in out:
                return f"{command.text}\nproposes no classes at first:\n{out}"
        code, out = self.bash(*arguments, parse_only=parse_only)
        if code:
            return f"{command.text}\nends with exit code {code}:\n{out}"
        promised = [] if parse_only else promised_paths(command.comment)
        missing = [path for path in promised if not (self.root / path).exists()]
        return f"{command.text}\ndoes not write {missing}:\n{out}" if missing else ""


@pytest.fixture(scope="module")
def new_copy(programs, tmp_path_factory) -> Callable[[], Copy]:
    """Makes a copy of the repository, with the photos and pets/ that the commands name."""

    def make() -> Copy:
        folder = tmp_path_factory.mktemp("copy")
        root = folder / "repository"
        for name in {file.parent.name for file in ROOT.glob("*/*.py")} | {"docs", ".ci"}:
            caches = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, root / name, ignore=caches)
        for file in ROOT.iterdir():
            if file.is_file() and file.name != ".git":
                shutil.copy(file, root)
        save_pictures(root)
        return Copy(root, folder / "tensorflow_datasets", programs)

    return make


def save_pictures(root: pathlib.Path) -> None:
    """photo.jpg, folder/, two .webp, and pets/ with images and masks of three classes."""
    rng = np.random.default_rng(0)
    for name in ("photo.jpg", "folder/one.png", "folder/two.jpg", "three.webp", "four.webp"):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (50, 70, 3)).astype(np.uint8)).save(root / name)
    for kind, shape, values in (("images", (40, 50, 3), 256), ("masks", (40, 50), 3)):
        (root / "pets" / kind).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, values, shape).astype(np.uint8)
            Image.fromarray(pixels).save(root / "pets" / kind / f"{i}.png")


@pytest.fixture(scope="module")
def copy_with_run(new_copy) -> Copy:
    """A copy in which the quick start has been run, on a few images and for a few steps."""
    copy = new_copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "NUM_IMAGES", {"train": 8, "val": 2})
        build("shapes", str(copy.data_dir))
    code, out = copy.bash(f"python train.py {' '.join(SMALL)}")
    assert code == 0, out
    return copy


def test_the_commands_work_as_written(copy_with_run):
    """File by file, in their order; what several files have is run once."""
    done, failures = set(), []
    for file, commands in COMMANDS.items():
        for command in commands:
            if command.text not in done:
                done.add(command.text)
                parse_only = command.text in PARSED or command.text in SLOW
                if failure := copy_with_run.failure(command, parse_only=parse_only):
                    failures.append(f"{file}: {failure}")
    assert not failures, "\n\n".join(failures)


def test_what_is_only_parsed_fails_where_it_is_wrong(new_copy):
    """Each of these is one mistake away from a documented command."""
    copy = new_copy()
    for text in WRONG:
        code, out = copy.bash(text, parse_only=True)
        assert code != 0, f"{text}\nis taken:\n{out}"


@pytest.mark.slow
@pytest.mark.parametrize("text", sorted(SLOW - {QUICK_START}), ids=str)
def test_a_slow_command_works_as_written(text, copy_with_run):
    command = next(
        command for commands in COMMANDS.values() for command in commands if command.text == text
    )
    if "needs requirements-extras.txt" in command.comment:
        for library in ("ai_edge_litert", "tf2onnx", "onnxruntime"):
            pytest.importorskip(library)
    assert not (failure := copy_with_run.failure(command)), failure


@pytest.mark.slow
def test_the_readme_from_nothing(new_copy):
    """Its first command is the quick start; the others use the run that it leaves."""
    copy = new_copy()
    for command in COMMANDS["README.md"]:
        # Tested above.
        parse_only = command.text in PARSED or command.text in SLOW - {QUICK_START}
        assert not (failure := copy.failure(command, parse_only=parse_only)), failure
    result = json.loads((copy.root / "runs/shapes/base/eval.json").read_text())
    assert result["num_images"] == 500 and result["miou"] > 0.55  # The README has 0.657.
