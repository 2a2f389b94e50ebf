"""The report: runs and missing runs are shown as they are, and claims are decided."""

import json
import pathlib
import re

import numpy as np
import pytest

from data.classes import VOC_CLASS_NAMES
from data.files import between_markers, write_json
from evaluation.counts import Counts
from evaluation.metrics import confusion_matrix
from evaluation.protocol import protocol_hash
from evaluation.results import write_counts
from evaluation.scores import compute_scores
from experiments import report, tables
from experiments.claims import CLAIMS
from experiments.collect import SHARED_FIELDS, collect, training_hours
from experiments.plan import evaluation_of, folder_of, plan
from experiments.report import (
    MARKERS,
    cells,
    claim_line,
    columns,
    markdown,
    summary_in_markdown,
    write_report_page,
)

NUM_IMAGES = 30


def counts_of(right, seed):
    """Images of which about that share of the pixels is right, each harder or easier."""
    rng, confusions = np.random.default_rng(0), []
    for _ in range(NUM_IMAGES):
        label = np.arange(21 * 30) % 21
        hard = np.clip(right + rng.normal(0, 0.05), 0, 1)
        wrong = np.random.default_rng((seed, len(confusions))).random(label.shape) > hard
        prediction = np.where(wrong, (label + 1) % 21, label)
        confusions.append(confusion_matrix(label, prediction, num_classes=21, ignore_label=255))
    ids = [f"image{i:02}" for i in range(NUM_IMAGES)]
    nothing = np.zeros((10, 21, 21)), np.ones((21, 2), np.int64)
    return Counts(ids, np.stack(confusions), *nothing, "labels")


def add_run(runs, name, right, *, scale="shapes", seed=0, **protocol):
    """Leaves in runs/ what train.py and eval.py would of a row -> its JSON."""
    work = plan({name: tables.row_of(name)}, scale=scale, seed=seed, runs=runs)[-1]
    folder, config = work.folder, work.config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config.to_json())
    (folder / "log.csv").write_text(
        "step,loss,regularization,learning_rate,gradient_norm,images_per_second\n"
        "20,1,0,0.1,1,8\n40,1,0,0.1,1,4\n"
    )
    counts = counts_of(right, seed)
    name, how = evaluation_of(tables.config_of(name, scale), config)
    protocol = {
        **{field: "x" for field in SHARED_FIELDS},
        **{"dataset": "shapes/1", **how, "scales": list(how["scales"]), **protocol},
    }
    file = folder / name
    result = {
        **compute_scores(counts, VOC_CLASS_NAMES),
        "step": config.steps,
        "commit": "1234567",
        "num_images": 30,
        "official_images": 30,
        "protocol": {**protocol, "hash": protocol_hash(protocol)},
    }
    write_json(file, result)
    write_counts(file.with_suffix(".npz"), counts)
    return file


def changed(file, **fields):
    """Changes fields of a JSON."""
    write_json(file, {**json.loads(file.read_text()), **fields})


def test_rows_are_shown_with_their_intervals_and_those_without_a_run_say_why(tmp_path):
    assert collect("table5", "shapes", tmp_path) is None
    add_run(tmp_path, "table5/mg111", 0.6)
    add_run(tmp_path, "table5/mg111", 0.64, seed=1)
    file = add_run(tmp_path, "table5/mg124", 0.7)
    failed = folder_of(tmp_path, "table5/mg121", "shapes", 0)
    failed.mkdir()
    write_json(failed / "failure.json", {"said": "error: no luck", "exit_code": 1})
    rows = collect("table5", "shapes", tmp_path)["rows"]
    twice, once = rows["mg111"], rows["mg124"]
    assert [seed["seed"] for seed in twice["seeds"]] == [0, 1]
    assert twice["miou"] == pytest.approx(np.mean([seed["miou"] for seed in twice["seeds"]]))
    low, high = twice["image_interval"]
    assert low < twice["miou"] < high and high - low < 0.1
    low, high = twice["seed_interval"]  # Student's, of two: 12.7 times half of their difference.
    half = 12.706 * abs(np.diff([seed["miou"] for seed in twice["seeds"]])[0]) / 2
    assert high - twice["miou"] == pytest.approx(half, rel=1e-3) and low < twice["miou"]
    assert once["seed_interval"] is None and once["status"] == "run"
    assert once["miou"] == json.loads(file.read_text())["miou"]
    assert rows["mg121"] == {
        "paper": 75.93,
        "run": "table5/mg121",
        "status": "failed: error: no luck",
    }
    write_json(folder_of(tmp_path, "table5/mg111", "shapes", 1) / "failure.json", {"said": "late"})
    rows = collect("table5", "shapes", tmp_path)["rows"]
    assert rows["mg111"]["status"] == "run; seed 1: failed: late"
    assert rows["mg124_rate24"]["status"] == "not run"


def test_what_is_not_the_rows_own_has_no_part_in_it(tmp_path):
    """Another config, other weights to start from, another step or inference, or damage."""
    file = add_run(tmp_path, "table6/os8", 0.6)
    config = file.with_name("config.json")
    before = {path: path.read_bytes() for path in file.parent.iterdir()}

    def status():
        row = collect("table6", "shapes", tmp_path)
        for path, content in before.items():
            path.write_bytes(content)
        return row and (row["rows"]["os8"]["status"], "miou" in row["rows"]["os8"])

    assert status() == ("run", True)
    add_run(tmp_path, "table6/os16", 0.5)
    before |= {path: path.read_bytes() for path in file.parent.iterdir()}
    changed(config, steps=7)
    assert status() is None
    fields = json.loads(config.read_text())
    changed(config, init_from={**fields["init_from"], "path": "/val"})
    assert status() is None
    changed(file, step=600)
    assert status() == (f"not run: {file} is of another step or inference", False)
    file.write_bytes(file.with_name("eval.json").read_bytes())
    assert status()[1] is False
    file.write_text("{")
    assert status()[1] is False
    file.with_suffix(".npz").write_bytes(b"no")
    assert "is damaged" in status()[0]
    file.with_name("log.csv").unlink()
    assert status() is None or not status()[1]


def test_a_part_of_a_split_is_not_set_against_the_paper(tmp_path):
    file = add_run(tmp_path, "table5/mg111", 0.6, scale="paper")
    changed(file, official_images=1449)
    result = collect("table5", "paper", tmp_path)
    assert result["rows"]["mg111"]["status"] == "run; on 30 of 1449 images"
    assert cells(result)[0][3] == "-"


def test_one_training_is_under_all_of_its_tables(tmp_path):
    add_run(tmp_path, "table6/os16", 0.7)
    add_run(tmp_path, "table6/os8", 0.8)
    mious = {
        f"{table}/{row}": entry["miou"]
        for table in ("table5", "table6", "table8", "table9", "table10")
        for row, entry in collect(table, "shapes", tmp_path)["rows"].items()
        if "miou" in entry
    }
    os16, os8 = mious["table6/os16"], mious["table6/os8"]
    assert mious == {
        "table5/mg124_pooling": os16,
        "table6/os16": os16,
        "table6/os8": os8,
        "table8/base": os16,
        "table9/batch16": os16,
        "table10/train16_eval16": os16,
        "table10/train16_eval8": os8,
    }


def test_rows_of_other_images_or_labels_share_no_column(tmp_path):
    for field in SHARED_FIELDS:
        if field == "split":
            continue  # That is of the row's inference, and no other is looked at.
        add_run(tmp_path, "table5/mg111", 0.6)
        add_run(tmp_path, "table5/mg124", 0.7, **{field: "others"})
        with pytest.raises(ValueError, match=f"mg111, seed 0 and .*mg124, seed 0.*({field})"):
            collect("table5", "shapes", tmp_path)


def test_hours_are_those_of_the_steps(tmp_path):
    file = add_run(tmp_path, "table5/mg111", 0.6)
    assert training_hours(file.parent) == pytest.approx((20 * 8 / 8 + 20 * 8 / 4) / 3600)


def verdicts(tmp_path, table, **rights):
    for row, right in rights.items():
        add_run(tmp_path, f"{table}/{row}", right)
    return {c["claim"]: c["verdict"] for c in collect(table, "shapes", tmp_path)["claims"]}


def test_claims_hold_or_not_or_cannot_be_told(tmp_path):
    said = verdicts(tmp_path, "table5", mg111=0.6, mg121=0.7, mg124=0.5, mg124_rate24=0.5)
    assert said == {
        "(1, 2, 1) beats (1, 1, 1)": "holds",
        "(1, 2, 4) beats (1, 2, 1)": "does not hold",
        "a fourth rate of 24 does not help": "inconclusive",  # They are equal.
        "image pooling helps": "inconclusive",  # It was not run.
    }


def test_margins_are_differences_of_differences(tmp_path):
    rights = enumerate((0.3, 0.5, 0.6, 0.65), start=4)
    blocks = {f"resnet101_block{number}": right for number, right in rights}
    said = verdicts(tmp_path, "table2", **blocks)
    assert said["margins shrink as blocks are added"] == "holds"
    said = verdicts(tmp_path, "table2", resnet101_block7=0.9)
    assert said["margins shrink as blocks are added"] == "does not hold"


def claim_of(tmp_path, text, table="table5"):
    (claim,) = [c for c in collect(table, "shapes", tmp_path)["claims"] if c["claim"] == text]
    return claim


def test_seeds_that_disagree_leave_a_claim_open(tmp_path):
    """And those that only one side has do not count."""
    text = "(1, 2, 1) beats (1, 1, 1)"
    for seed, (ours, theirs) in enumerate([(0.7, 0.6), (0.6, 0.65)]):
        add_run(tmp_path, "table5/mg121", ours, seed=seed)
        if seed == 0:
            add_run(tmp_path, "table5/mg111", theirs)
            assert claim_of(tmp_path, text)["verdict"] == "holds"
            assert "**holds (single seed)**" in claim_line(claim_of(tmp_path, text))
    claim = claim_of(tmp_path, text)
    assert claim["verdict"] == "holds" and claim["parts"][0]["seeds"] == 1
    add_run(tmp_path, "table5/mg111", theirs, seed=1)
    claim = claim_of(tmp_path, text)
    assert claim["verdict"] == "inconclusive" and claim["parts"][0]["seeds"] == 2
    low, high = claim["parts"][0]["seed_interval"]
    assert low < 0 < high


def test_a_claim_shows_what_decided_it_and_what_was_not_run(tmp_path):
    for row, right in (("os8", 0.7), ("os16", 0.6), ("os32", 0.62), ("os128", 0.2)):
        add_run(tmp_path, f"table1/{row}", right)
    claim = claim_of(tmp_path, "a smaller output stride is better", "table1")
    assert claim["verdict"] == "does not hold" and claim["parts_not_run"] == 3
    said = claim_line(claim)
    assert "(os16 - os32: -" in said and said.endswith("not run: 3 of its differences")


def test_in_miniature_nothing_is_said_of_coco(tmp_path):
    add_run(tmp_path, "table6/os16", 0.6)
    claims = [claim["claim"] for claim in collect("table6", "shapes", tmp_path)["claims"]]
    assert (
        "several scales help" in claims
        and "flip helps" in claims
        and not any("COCO" in claim for claim in claims)
    )


def test_every_claim_is_of_rows_that_are_there_and_holds_in_the_paper():
    for table, claims in CLAIMS.items():
        papers = {row: value.paper_miou for row, value in tables.TABLES[table].ROWS.items()}
        for claim in claims:
            for terms in claim.differences:
                assert sum(n * papers[row] for row, n in terms.items()) > 0, (table, claim.text)


def test_numbers_of_another_scale_are_not_set_against_the_papers(tmp_path):
    for scale in ("shapes", "paper"):
        add_run(tmp_path, "table5/mg111", 0.6, scale=scale)
        result = collect("table5", scale, tmp_path)
        row = dict(zip(columns(scale), cells(result)[0], strict=True))
        assert row["paper"] == "75.36"
        if scale == "paper":
            assert row["difference"] == f"{100 * result['rows']['mg111']['miou'] - 75.36:+.2f}"
            assert row["ours"] == f"{100 * result['rows']['mg111']['miou']:.2f}"
        else:
            assert row["difference"] == "-" and "ours" not in row and "ours, `shapes`" in row


def test_the_readme_is_made_anew_between_its_markers(tmp_path):
    add_run(tmp_path, "table5/mg111", 0.6)
    sparse = collect("table5", "shapes", tmp_path)
    assert markdown([sparse]).endswith(
        "[5](../experiments/results/shapes_table5.json) (1 of 5 rows)."
    )
    for row in ("mg121", "mg124"):
        add_run(tmp_path, f"table5/{row}", 0.6)
    result = collect("table5", "shapes", tmp_path)
    part = markdown([result])
    assert f"| mg111 | 75.36 | {100 * result['rows']['mg111']['miou']:.2f} | - | 1 |" in part
    assert "- image pooling helps: **inconclusive**; not run: 1 of its differences" in part
    readme = f"# Title\n\n{MARKERS[0]}\nearlier\n{MARKERS[1]}\n\nEnd\n"
    once = between_markers(readme, part, report.MARKERS)
    assert "earlier" not in once and once.startswith("# Title") and once.endswith("End\n")
    assert between_markers(once, part, report.MARKERS) == once
    with pytest.raises(ValueError, match="must have each of these lines exactly once"):
        between_markers("# Title\n", part, report.MARKERS)


def test_the_summary_counts_rows_and_claims(tmp_path):
    for row, right in (("mg111", 0.6), ("mg121", 0.7), ("mg124", 0.5)):
        add_run(tmp_path, f"table5/{row}", right)
    add_run(tmp_path, "table5/mg111", 0.6, scale="paper")
    results = [collect("table5", scale, tmp_path) for scale in ("paper", "shapes")]
    _, _, *lines, last = summary_in_markdown(results).strip().splitlines()
    topic = "ASPP with multi-grid and image-level features, ResNet-101, output_stride 16"
    assert lines == [f"| 5: {topic} | 3 of 5 | 1 | 1 | 0 | 2 |", ""]  # One scale only.
    assert last.endswith("[docs/results.md](docs/results.md).")


def test_the_page_needs_no_other_file(tmp_path):
    for row, right in (("os8", 0.6), ("os16", 0.5), ("os256", 0.2)):
        add_run(tmp_path, f"table1/{row}", right)
    add_run(tmp_path, "table5/mg111", 0.6)
    results = [collect(table, "shapes", tmp_path) for table in ("table1", "table5")]
    write_report_page(tmp_path / "report.html", results)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img ") == 2 and "Table 1, scale shapes" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_the_readme_of_this_repository_is_what_its_results_say():
    """Nobody typed a number."""
    root = pathlib.Path(report.ROOT)
    results = report.read_results()
    docs_page = (root / report.DOCS_PAGE).read_text()
    assert between_markers(docs_page, markdown(results), MARKERS) == docs_page
    readme = (root / "README.md").read_text()
    assert between_markers(readme, summary_in_markdown(results), MARKERS) == readme
