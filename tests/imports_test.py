"""Who may import whom; the arrow never turns round."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAMS = ("train.py", "eval.py", "export.py", "predict.py")
# A folder, and the others that it may import. Nobody imports a program.
MAY_IMPORT = {
    "data": set(),
    "model": set(),
    "evaluation": {"model", "data"},
    "training": {"evaluation", "model", "data"},
    "pretrained": {"training", "model", "data"},
    "deployment": {"training", "evaluation", "model", "data"},
    "experiments": {"training", "evaluation", "model", "data"},
    "benchmark": {"experiments", "deployment", "training", "evaluation", "model", "data"},
}
KNOW_CONFIGS = {"experiments", "benchmark"}
READS_CONFIGS = "training/run_folder.py"  # config.json, which holds one.
CONFIGS = (
    "experiments/base.py",
    "experiments/protocols.py",
    *(f"experiments/{path.name}" for path in ROOT.glob("experiments/table[0-9]*")),
)
FILES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """A Python file -> the dotted modules that it imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported(path)}


def test_every_folder_of_code_is_in_the_dictionary():
    assert {path.parent.name for path in ROOT.glob("*/*.py")} == {*MAY_IMPORT, "tests"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_folder_may(path):
    folder = path.parent.name
    ours = {*MAY_IMPORT, "tests", *(Path(program).stem for program in PROGRAMS)}
    assert packages(path) & ours <= {folder, *MAY_IMPORT[folder]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_configs_and_flags_stop_at_the_programs(path):
    if path.parent.name not in KNOW_CONFIGS:
        known = {"absl", "ml_collections"} & packages(path)
        assert known <= ({"ml_collections"} if path == ROOT / READS_CONFIGS else set())


def test_model_is_written_for_every_keras_backend():
    """TensorFlow may be imported only inside a function, where it is the backend."""
    for path in (ROOT / "model").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "tensorflow" not in ast.unparse(node), path


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_name_things_and_build_none(config):
    assert packages(ROOT / config) & ({*MAY_IMPORT, "tensorflow", "keras"}) <= {"experiments"}
    names = {name for name in imported(ROOT / config) if name.startswith("experiments.")}
    assert names <= {"experiments.base"}, names
