"""Runs -> a list of them, and the paper's tables with our numbers: a page and JSONs.

    python -m experiments.report                       all runs, tables and scales
    python -m experiments.report --runs=/shared/runs
    python -m experiments.report --publish             also experiments/results/ and the docs

It lists every run below runs/, also those of your own data, and writes runs/report/: report.html,
and for each table with a run of one of its rows the JSON of its numbers. Nothing is trained or
evaluated. Without such runs the page shows the published results, those in experiments/results/.

--publish also writes the JSONs to experiments/results/, and from all JSONs there the tables and
plots in docs/results.md and their summary in README.md, both between markers. It prints which rows
are new or have changed. It refuses to drop a number that is published. What the numbers are
computed from, counts per image, is copied to experiments/results/runs/:
--runs=experiments/results/runs gives the same numbers again.

Columns: `ours` is the mean over seeds. The 95% CI (images) comes from a bootstrap over images, the
same ones for all seeds; the 95% CI (seeds) is Student's. A claim of the paper is about differences
of rows, seed by seed and image by image. The 95% interval of a difference adds both variances, over
seeds and over images. A claim holds if all of its intervals are above 0. It does not hold if one of
them is below 0; of m differences, a negative one is judged by its interval of 1 - 5% / m. Otherwise
it is inconclusive, and the report says about how many seeds or images it needs. Only seeds that
both sides have count. A single seed decides nothing between different training runs.
"""

import pathlib

from data.files import write_json
from data.terminal import errors_in_a_line, import_tensorflow, make_parser, table
from experiments import base, tables
from experiments.publish import Results, json_name, publish, read_results
from experiments.run_list import find_runs, rows_of

RUNS = pathlib.Path("runs")


def collect_all(runs: pathlib.Path) -> Results:
    """The folder of all runs -> the contents of the JSON of every table and scale that has runs."""
    from experiments.collect import collect  # Imports TensorFlow: only if there are runs.

    collected = (collect(name, scale, runs) for scale in base.SCALES for name in tables.TABLES)
    return [result for result in collected if result is not None]


def write_jsons(folder: pathlib.Path, results: Results) -> None:
    """Writes the JSONs of tables, and deletes those of tables that have no runs any more."""
    for result in results:
        write_json(folder / json_name(result), result)
    current = {json_name(result) for result in results}
    for scale in base.SCALES:
        for name in tables.TABLES:
            file = folder / json_name({"scale": scale, "table": name})
            if file.name not in current:
                file.unlink(missing_ok=True)


def report(runs: pathlib.Path, *, publishes: bool) -> None:
    """The folder of all runs -> RUNS/report and the list of runs at the terminal.

    publishes: whether to publish the results, too. Raises ValueError if scores of different
    protocols would be in one column, or if a published number would be lost.
    """
    from experiments.report_page import write_report_page  # Imports Matplotlib.

    if any(runs.rglob("config.json")):
        import_tensorflow()  # To read them.
    found = find_runs(runs)
    if found:
        print(table(rows_of(found)))
    results = collect_all(runs) if found else []
    folder = runs / "report"
    folder.mkdir(parents=True, exist_ok=True)
    write_jsons(folder, results)
    if not results:
        which = "complete runs of the tables' rows" if found else "runs"
        print(f"There are no {which} in {runs}/: the page shows the published results.")
    page = folder / "report.html"
    write_report_page(page, runs, found, results or read_results(), published=not results)
    print(f"-> {page}" + (f", {len(results)} JSONs beside it" if results else ""))
    if publishes:
        if not results:
            print("Nothing new to publish; the docs are made again from the published results.")
        publish(results, runs)


def main() -> None:
    parser = make_parser("experiments.report", __doc__)
    parser.add_argument("--runs", type=pathlib.Path, help="the folder of all runs (default: runs)")
    parser.add_argument(
        "--publish", action="store_true", help="write experiments/results/ and the docs, too"
    )
    arguments = parser.parse_args()
    with errors_in_a_line():
        if arguments.runs and not arguments.runs.is_dir():
            raise NotADirectoryError(f"--runs={arguments.runs}: not a directory.")
        report(arguments.runs or RUNS, publishes=arguments.publish)


if __name__ == "__main__":
    main()
