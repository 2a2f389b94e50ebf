"""The flags that programs share: what is given replaces the run's own, and --help shows them."""

import subprocess
import sys

import pytest
from absl import flags

from experiments.base import FIELDS, get_config
from experiments.command_line import InferenceFlags, inference_from_flags, nearest_fields
from tests.conftest import ROOT
from training.run_folder import flat

OWN = {"split": "val", "output_stride": 16, "scales": (1.0,), "flip": True}
PROGRAM = """'A program.'

from experiments.command_line import (
    define_data_dir,
    define_inference_flags,
    define_run,
    inference_from_flags,
    parse_flags,
    run_program,
)

RUN, INFERENCE, DATA_DIR = define_run(), define_inference_flags(), define_data_dir()


def main(_):
    print(RUN.value, DATA_DIR.value, inference_from_flags(INFERENCE, {"split": "val"}))


if __name__ == "__main__":
    run_program(main, parse_flags())
"""


def parse(*arguments):
    """Flags as define_inference_flags defines them, without touching those of this process."""
    values = flags.FlagValues()
    given = InferenceFlags(
        flags.DEFINE_integer("output_stride", None, "", flag_values=values),
        flags.DEFINE_list("scales", None, "", flag_values=values),
        flags.DEFINE_bool("flip", None, "", flag_values=values),
    )
    values(["program", *arguments])
    return given


@pytest.mark.parametrize(
    "arguments, changed",
    [
        ([], {}),
        (["--output_stride=8"], {"output_stride": 8}),
        (["--scales=1,0.5"], {"scales": (0.5, 1.0)}),
        (["--noflip"], {"flip": False}),
    ],
)
def test_a_flag_that_is_given_replaces_the_runs_own(arguments, changed):
    assert inference_from_flags(parse(*arguments), OWN) == {**OWN, **changed}


def test_scales_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="--scales=0.5,x: could not convert"):
        inference_from_flags(parse("--scales=0.5,x"), OWN)


def test_a_program_with_the_shared_flags_lists_them_in_its_help(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)

    def run(*arguments):
        command = [sys.executable, file, *arguments]
        result = subprocess.run(
            command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )
        return result.returncode, result.stdout + result.stderr

    code, text = run("--help")
    assert code == 0
    for flag in ("--run:", "--output_stride:", "--scales:", "--[no]flip:", "--data_dir:"):
        assert text.count(flag) == 1, text
    code, text = run("--run=x", "--scales=0.5,1", "--flip", "--data_dir=y")
    assert code == 0
    assert "x y {'split': 'val', 'scales': (0.5, 1.0), 'flip': True}" in text
    code, text = run()
    assert code == 1 and "--run" in text and "Traceback" not in text


PROGRAMS = ["train.py", "eval.py", "export.py", "predict.py"]
COMMANDS = sorted(
    f"{path.parent.name}.{path.stem}"
    for path in ROOT.glob("*/*.py")
    if path.parent.name != "tests" and "make_parser(" in path.read_text()
    if path.stem != "terminal"
)
HELP = """
import runpy, sys
name, run = sys.argv[1], runpy.run_path if sys.argv[1].endswith(".py") else runpy.run_module
sys.argv = [name, "--help"]
try:
    run(name, run_name="__main__")
finally:
    print("tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("name", [*PROGRAMS, *COMMANDS])
def test_help_is_given_at_once(name):
    """TensorFlow, which takes seconds to import, is not."""
    result = subprocess.run(
        [sys.executable, "-c", HELP, name], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    *text, imported = result.stdout.splitlines()
    assert imported == "False" and not result.stderr
    assert f"python {'' if name in PROGRAMS else '-m '}{name}" in "\n".join(text)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--config.steps=3"]])
def test_a_missing_config_lists_those_there_are(arguments):
    result = subprocess.run(
        [sys.executable, "train.py", "--config=nowhere.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "there are experiments/base.py:SCALE" in result.stderr and "table13" in result.stderr


def test_help_is_given_by_every_command():
    assert len(COMMANDS) >= 9


def test_every_field_of_a_config_has_a_meaning():
    assert set(FIELDS) == set(flat(get_config().to_dict()))


@pytest.mark.parametrize(
    "name, meant",
    [
        ("lr", ["learning_rate"]),
        ("learning_rat", ["learning_rate"]),
        ("model.outputstride", ["model.output_stride", "eval.output_stride"]),
        ("batch_size", ["train_data.batch_size"]),
        ("model.crop_size", ["train_data.crop_size"]),
        ("zzz", []),
    ],
)
def test_a_misspelled_field_suggests_the_nearest(name, meant):
    assert nearest_fields(name)[: len(meant) or None] == meant
