"""Every table of the paper, its rows, and the runs that train for them, found by their names.

A row is asked for as train.py's --config has it, `table3:mg121_block7`, and a whole table as
`table3`. A run is named as its folder in runs/: `base`, `protocols/coco`, `table3/mg121_block7`.
"""

import importlib
from collections.abc import Iterable
from types import ModuleType

import ml_collections

from experiments import base, protocols

TABLES: dict[str, ModuleType] = {
    f"table{number}": importlib.import_module(f"experiments.table{number}")
    for number in range(1, 14)
}


def find_rows(names: Iterable[str]) -> dict[str, base.Row]:
    """`table3` or `table3:mg121_block7`, any number of them -> `table3/mg121_block7`, its Row; ...

    In the paper's order within a table. Raises ValueError, which lists what there is.
    """
    rows = {}
    for name in names:
        table, _, row = name.replace("/", ":").partition(":")  # As it is printed, too.
        if table not in TABLES:
            raise ValueError(f"No table {table!r}; there are {', '.join(TABLES)}.")
        there = TABLES[table].ROWS
        if row and row not in there:
            raise ValueError(f"No row {row!r} in {table}; there are {', '.join(there)}.")
        rows |= {f"{table}/{each}": there[each] for each in ([row] if row else there)}
    return rows


def config_of(run: str, scale: str = "paper") -> ml_collections.ConfigDict:
    """A run's name at the paper's scale, or a row's -> its config at a scale.

    Raises ValueError, which lists what there is, for an unknown scale.
    """
    if run == "base":
        return base.get_config(scale)
    table, _, row = run.partition("/")
    return _module(table).get_config(f"{row}@{scale}")


def config_flag(run: str, scale: str = "paper") -> str:
    """A run's name at the paper's scale -> what train.py's --config takes for it at a scale."""
    if run == "base":
        return f"experiments/base.py:{scale}"
    table, _, row = run.partition("/")
    return f"experiments/{table}.py:{row}" + ("" if scale == "paper" else f"@{scale}")


def trainings(rows: Iterable[str]) -> list[str]:
    """Names that find_rows gave -> the runs that train for them: each once, and in order.

    A run whose weights another one starts from comes before it. Rows with a why_not have none.
    """
    runs = {}  # As a set that keeps the order.
    for name in rows:
        row = row_of(name)
        if row.why_not:
            continue
        run = row.run or name
        if row.after:
            runs |= dict.fromkeys(trainings([row.after]))
        runs[run] = None
    return list(runs)


def row_of(run: str) -> base.Row:
    """A run's name at the paper's scale -> the Row that it is."""
    if run == "base":
        return base.Row(77.21, {})
    table, _, row = run.partition("/")
    return _module(table).ROWS[row]


def _module(table):
    return protocols if table == "protocols" else TABLES[table]
