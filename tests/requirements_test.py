"""One list of dependencies: every way to install shares it, and no copy drifts."""

import re
import tomllib

import pytest

from tests.conftest import ROOT

COMMON = ["-r requirements-common.txt", "-r requirements-dev.txt"]


def lines_of(name):
    lines = (ROOT / name).read_text().splitlines()
    return [line.partition("#")[0].strip() for line in lines if not line.startswith("#")]


def package(line):
    return re.match(r"[A-Za-z0-9_-]+", line)[0]


@pytest.mark.parametrize(
    "name, tensorflow",
    [
        ("requirements.txt", ["-r requirements-tensorflow.txt"]),
        ("requirements-gpu.txt", ["tensorflow[and-cuda]>=2.19,<2.22"]),
        ("requirements-tpu.txt", ["tensorflow-tpu==2.19.1", "tensorflow-metadata<1.18"]),
    ],
)
def test_only_tensorflow_differs_from_device_to_device(name, tensorflow):
    assert lines_of(name) == [*tensorflow, *COMMON]


def test_the_package_installs_the_same_list_but_for_the_tests():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    files = project["tool"]["setuptools"]["dynamic"]["dependencies"]["file"]
    assert [f"-r {file}" for file in files] == lines_of("requirements.txt")[:-1]
    lines = [line for file in files for line in lines_of(file)]
    assert {package(line) for line in lines} >= {
        *("tensorflow", "tensorflow-datasets", "numpy", "absl-py")
    }
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+(\[.*\])?[><=].*", line) for line in lines), lines


def test_every_folder_of_code_is_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {path.parent.name for path in ROOT.glob("*/*.py")} - {"tests"}
    assert set(project["tool"]["setuptools"]["packages"]) == folders
