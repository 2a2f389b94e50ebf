"""The paper's tables, their rows and training runs, found by name.

Rows are named as in train.py's --config, `table3:mg121_block7`; a whole table is `table3`. Runs are
named by their folder in runs/: `base`, `protocols/coco`, `table3/mg121_block7`.
"""

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import ml_collections

from experiments import (
    base,
    protocols,
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
    table7,
    table8,
    table9,
    table10,
    table11,
    table12,
    table13,
)

TABLES: dict[str, ModuleType] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "table6": table6,
    "table7": table7,
    "table8": table8,
    "table9": table9,
    "table10": table10,
    "table11": table11,
    "table12": table12,
    "table13": table13,
}


def find_rows(names: Iterable[str], scale: str = "paper") -> dict[str, base.Row]:
    """Names such as `table3` and `table3:mg121_block7` -> {`table3/mg121_block7`: its Row, ...}.

    In the paper's order within a table; as row_of has them at a scale. Raises ValueError, which
    lists the choices.
    """
    rows = {}
    for name in names:
        table, _, row = name.replace("/", ":").partition(":")  # The printed form, table3/row, too.
        if table not in TABLES:
            raise ValueError(f"No table {table!r}; there are {', '.join(TABLES)}.")
        choices = TABLES[table].ROWS
        if row and row not in choices:
            raise ValueError(f"No row {row!r} in {table}; there are {', '.join(choices)}.")
        names_there = [f"{table}/{each}" for each in ([row] if row else choices)]
        rows |= {name: row_of(name, scale) for name in names_there}
    return rows


def without_missing(rows: Mapping[str, base.Row], scale: str) -> list[str]:
    """Rows as find_rows gives them -> the names of those that a scale offers; prints the others.

    Rows that are unavailable at the paper's scale have a config, too. Raises ValueError where the
    scale offers none.
    """
    missing = {name: base.unavailable_at(scale, row.overrides) for name, row in rows.items()}
    for name, reason in missing.items():
        if reason:
            print(f"{name} is skipped: {reason}.")
    there = [name for name, reason in missing.items() if not reason]
    if not there:
        raise ValueError(f"None of these rows is available at the scale {scale}.")
    return there


def config_of(run: str, scale: str = "paper") -> ml_collections.ConfigDict:
    """The name of a run or row at the paper's scale -> its config at a scale.

    Raises ValueError, which lists the choices, for an unknown scale.
    """
    if run == "base":
        return base.get_config(scale)
    table, _, row = run.partition("/")
    return _find_module(table).get_config(f"{row}@{scale}")


def changed_settings(rows: Iterable[str], scale: str) -> dict[str, dict[str, Any]]:
    """Rows of a table -> those of the fields that any of them sets which a scale changes, by row.

    Each with its value at the scale: `train_data.batch_size` of Table 9's batch4 is 2 for shapes.
    """
    fields = dict.fromkeys(field for name in rows for field in row_of(name).overrides)
    changed = {}
    for name in rows:
        configs = config_of(name), config_of(name, scale)
        values = {field: [base.config_value(each, field) for each in configs] for field in fields}
        changed[name] = {field: ours for field, (paper, ours) in values.items() if ours != paper}
    return changed


def config_flag(run: str, scale: str = "paper") -> str:
    """A run's name at the paper's scale -> the value of train.py's --config for it at a scale."""
    if run == "base":
        return f"experiments/base.py:{scale}"
    table, _, row = run.partition("/")
    return f"experiments/{table}.py:{row}" + ("" if scale == "paper" else f"@{scale}")


def training_runs(rows: Iterable[str], scale: str = "paper") -> dict[str, str]:
    """Row names as find_rows gives them -> the runs that train for them: each with its first table.

    A run comes after the one whose weights it starts from. Rows that are unavailable at the scale
    have none.
    """
    runs = {}
    for name in rows:
        row = row_of(name, scale)
        if row.unavailable:
            continue
        table = name.partition("/")[0]
        if row.starts_from:
            for before in training_runs([row.starts_from], scale):
                runs.setdefault(before, table)
        runs.setdefault(row.shares or name, table)
    return runs


def row_of(run: str, scale: str = "paper") -> base.Row:
    """The name of a run or row at the paper's scale -> its Row.

    A row may be unavailable at a scale, also because what it starts from is, or because its devices
    cannot share the batch there.
    """
    if run == "base":
        return base.Row(77.21, {})
    table, _, row = run.partition("/")
    row = _find_module(table).ROWS[row]
    reason = row.unavailable or base.unavailable_at(scale, row.overrides)
    if not reason and row.starts_from:
        reason = row_of(row.starts_from, scale).unavailable
    if row.devices > 1 and (batch := config_of(run, scale).train_data.batch_size) % row.devices:
        reason = f"a batch of {batch} cannot be shared by {row.devices} devices"
    return row._replace(unavailable=reason)


def _find_module(table):
    return protocols if table == "protocols" else TABLES[table]
