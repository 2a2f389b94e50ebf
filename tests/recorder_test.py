"""Tables of a run: what is written is read back by name."""

import csv

import pytest

from experiments.run_list import last_row
from training.recorder import StepTable, evaluation_fields

NAMES = ["building, edifice", "step", "道路", 'a "quoted" name', "miou"]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "evaluations.csv"


def rows_of(file):
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_every_class_is_a_column_whatever_its_name(file):
    table = StepTable(file, evaluation_fields(NAMES), 0)
    table.write(4, [0.5, 0.1, 0.2, 0.3, 0.4, 0.6])
    (row,) = rows_of(file)
    assert (row["step"], row["miou"]) == ("4", "0.5")
    names = [NAMES[0], "iou/step", *NAMES[2:4], "iou/miou"]
    assert [row[name] for name in names] == ["0.1", "0.2", "0.3", "0.4", "0.6"]
    assert last_row(file) == row


def test_a_table_resumes_without_later_steps_and_a_row_that_was_cut(file):
    table = StepTable(file, evaluation_fields(NAMES), 0)
    for step in (4, 8, 12):
        table.write(step, [0.5] * 6)
    with file.open("a") as cut:
        cut.write("16,0.5")
    table = StepTable(file, evaluation_fields(NAMES), 8)
    assert table.steps == {4, 8}
    table.write(12, [0.25] * 6)
    assert [(row["step"], row["iou/step"]) for row in rows_of(file)] == [
        ("4", "0.5"),
        ("8", "0.5"),
        ("12", "0.25"),
    ]


def test_no_two_columns_have_one_name():
    names = ["step", "iou/step", "miou", "iou/iou/step", "cat"]
    fields = evaluation_fields(names)
    assert len({*fields}) == len(names) + 2 and fields[-1] == "cat"
