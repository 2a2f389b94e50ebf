"""Who may import whom; the arrow never turns round."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

OURS = {"model", "data", "experiments"}
PROGRAMS = ("train.py", "eval.py", "export.py", "predict.py")
CONFIGS = (
    "experiments/base.py",
    "experiments/protocols.py",
    *(f"experiments/{p.name}" for p in ROOT.glob("experiments/table[0-9]*")),
)


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


@pytest.mark.parametrize("package", ["model", "data"])
def test_model_and_data_import_none_but_themselves(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not packages(path) & OURS - {package}, path
        assert not packages(path) & {"absl", "ml_collections"}, f"{path} knows flags or configs"


def test_model_is_written_for_every_keras_backend():
    """TensorFlow may be imported only inside a function, where it is the backend."""
    for path in (ROOT / "model").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "tensorflow" not in ast.unparse(node), path


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_name_things_and_build_none(config):
    assert packages(ROOT / config) & (OURS | {"tensorflow", "keras"}) <= {"experiments"}
    names = {name for name in imported(ROOT / config) if name.startswith("experiments.")}
    assert names <= {"experiments.base"}, names


@pytest.mark.parametrize("path", [*ROOT.glob("*/*.py")], ids=lambda path: path.name)
def test_nobody_imports_a_program(path):
    if path.parent.name in OURS:
        assert not packages(path) & {Path(program).stem for program in PROGRAMS}
