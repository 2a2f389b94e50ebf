"""The report: runs and missing runs are shown as they are, and claims are decided."""

import json
import re
import shutil
import sys

import numpy as np
import pytest

from data.classes import VOC_CLASS_NAMES
from data.files import between_markers, write_json
from evaluation.counts import Counts
from evaluation.metrics import confusion_matrix
from evaluation.protocol import protocol_hash
from evaluation.results import write_counts
from evaluation.scores import compute_scores
from experiments import plots, publish, report, tables
from experiments.claims import CLAIMS
from experiments.collect import SHARED_FIELDS, collect, training_hours
from experiments.plan import evaluation_of, folder_of, plan, remaining
from experiments.publish import MARKERS
from experiments.report_page import write_report_page
from experiments.result_tables import (
    cells,
    changed_text,
    claim_cell,
    claim_line,
    columns,
    markdown,
    shared_notes,
    status_text,
    summary_in_markdown,
    table_in_markdown,
    verdict_text,
)
from experiments.run_list import find_runs
from experiments.verdicts import (
    DOES_NOT_HOLD,
    HOLDS,
    INCONCLUSIVE,
    decisive_part,
    half_width,
    images_needed,
    judge,
    seeds_needed,
    significant_sign,
)
from tests.conftest import ROOT

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
    assert once["seed_interval"] is None and status_text(once, []) == "run"
    assert once["miou"] == json.loads(file.read_text())["miou"]
    assert rows["mg121"] == {
        "paper": 75.93,
        "run": "table5/mg121",
        "status": "failed",
        "notes": ["failed: error: no luck"],
    }
    assert status_text(rows["mg121"], []) == "failed: error: no luck"
    write_json(folder_of(tmp_path, "table5/mg111", "shapes", 1) / "failure.json", {"said": "late"})
    rows = collect("table5", "shapes", tmp_path)["rows"]
    assert status_text(rows["mg111"], []) == "run; seed 1: failed: late"
    assert status_text(rows["mg124_rate24"], []) == "not run"


def test_a_row_of_which_no_seed_could_be_scored_failed_if_one_of_them_did(tmp_path):
    file = add_run(tmp_path, "table5/mg121", 0.6)
    file.unlink()
    failed = folder_of(tmp_path, "table5/mg121", "shapes", 1)
    failed.mkdir()
    write_json(failed / "failure.json", {"said": "no luck", "exit_code": 1})
    result = collect("table5", "shapes", tmp_path)
    row = result["rows"]["mg121"]
    assert row["status"] == "failed" and "miou" not in row
    assert status_text(row, []) == "eval.json is missing; seed 1: failed: no luck"
    assert table_in_markdown(result)[0] == (
        "**Table 5**, scale `shapes` ([json](../experiments/results/shapes_table5.json))"
    )


def test_weights_of_a_file_are_named(tmp_path):
    for seed in (0, 1):
        file = add_run(tmp_path, "table5/mg124", 0.6, scale="voc_mobile_aspp", seed=seed)
        config = json.loads(file.with_name("config.json").read_text())
        config["init_from"]["path"] = "weights/mobilenet.tflite"
        write_json(file.with_name("config.json"), config)
    result = collect("table5", "voc_mobile_aspp", tmp_path)
    row = result["rows"]["mg124"]
    assert status_text(row, []) == "run; from mobilenet.tflite"
    assert shared_notes(result) == []  # What one row has alone stays with it.
    for row in ("mg124_pooling", "mg124_rate24"):
        for seed in (0, 1):
            add_run(tmp_path, f"table5/{row}", 0.6, scale="voc_mobile_aspp", seed=seed)
    result = collect("table5", "voc_mobile_aspp", tmp_path)
    assert "voc_mobile_aspp --seeds=2 --imagenet=FILE`" in summary_in_markdown([result])


def test_what_is_noted_on_all_rows_is_said_once_in_the_tables_title(tmp_path):
    for row in ("mg124", "mg124_pooling", "mg124_rate24"):
        file = add_run(tmp_path, f"table5/{row}", 0.6, scale="voc_mobile_aspp")
        changed(file, official_images=1449)
        config = json.loads(file.with_name("config.json").read_text())
        config["init_from"]["path"] = f"weights/{'other' if row == 'mg124' else 'same'}.tflite"
        write_json(file.with_name("config.json"), config)
    result = collect("table5", "voc_mobile_aspp", tmp_path)
    title, rows, *_ = table_in_markdown(result)
    assert ", on 30 of 1449 images, scored by" in title
    assert "on 30 of" not in rows and "tflite" not in title
    assert rows.count("run; from same.tflite") == 2 and rows.count("run; from other.tflite") == 1


def test_all_seeds_are_scored_on_the_same_resampled_images(tmp_path):
    """A second training with the counts of the first one leaves the interval as it is."""
    file = add_run(tmp_path, "table5/mg111", 0.6)
    once = collect("table5", "shapes", tmp_path)["rows"]["mg111"]
    again = add_run(tmp_path, "table5/mg111", 0.6, seed=1)
    for suffix in (".json", ".npz"):
        shutil.copy(file.with_suffix(suffix), again.with_suffix(suffix))
    twice = collect("table5", "shapes", tmp_path)["rows"]["mg111"]
    assert len(twice["seeds"]) == 2 and twice["image_interval"] == once["image_interval"]


def test_what_is_not_the_rows_own_has_no_part_in_it(tmp_path):
    """Another config, other weights to start from, another step or inference, or damage."""
    file = add_run(tmp_path, "table6/os8", 0.6)
    config = file.with_name("config.json")
    before = {path: path.read_bytes() for path in file.parent.iterdir()}

    def status():
        row = collect("table6", "shapes", tmp_path)
        for path, content in before.items():
            path.write_bytes(content)
        return row and (status_text(row["rows"]["os8"], []), "miou" in row["rows"]["os8"])

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
    assert status_text(result["rows"]["mg111"], []) == "run; on 30 of 1449 images"
    assert dict(zip(columns("paper"), cells(result)[0], strict=True))["difference"] == "-"


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
    assert training_hours(file.parent, batch_size=8) == pytest.approx(
        (20 * 8 / 8 + 20 * 8 / 4) / 3600
    )


def verdicts(tmp_path, table, **rights):
    for row, right in rights.items():
        for seed in range(3):
            add_run(tmp_path, f"{table}/{row}", right, seed=seed)
    return {c["claim"]: c["verdict"] for c in collect(table, "shapes", tmp_path)["claims"]}


def test_claims_hold_or_not_or_cannot_be_told(tmp_path):
    said = verdicts(tmp_path, "table5", mg111=0.6, mg121=0.7, mg124=0.5, mg124_rate24=0.5)
    assert said == {
        "(1, 2, 1) beats (1, 1, 1)": "holds",
        "(1, 2, 4) beats (1, 2, 1)": "does not hold",
        "a fourth, larger rate hurts": "inconclusive",  # They are equal.
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
    claim = claim_of(tmp_path, text)
    assert claim["verdict"] == "inconclusive" and claim["parts"][0]["seeds"] == 1
    assert claim["parts"][0]["interval"] is None and "seeds_needed" in claim
    assert "**inconclusive (one seed)** (mg121 - mg111: +" in claim_line(claim)
    add_run(tmp_path, "table5/mg111", theirs, seed=1)
    claim = claim_of(tmp_path, text)
    assert claim["verdict"] == "inconclusive" and claim["parts"][0]["seeds"] == 2
    low, high = claim["parts"][0]["interval"]
    assert low < 0 < high and claim["seeds_needed"] > 2
    assert f"inconclusive (needs about {claim['seeds_needed']} seeds)" in claim_line(claim)


def test_of_one_training_two_evaluations_are_compared_by_images_alone(tmp_path):
    """Of several, by how much the gain differs between them, too."""
    text = "output stride 8 at evaluation beats 16"
    for seed, gain in enumerate((0.05, 0.35)):
        add_run(tmp_path, "table6/os16", 0.5, seed=seed)
        add_run(tmp_path, "table6/os8", 0.5 + gain, seed=seed)
        claim = claim_of(tmp_path, text, "table6")
        assert claim["verdict"] == ("holds", "inconclusive")[seed]
        said = verdict_text(claim)
        assert said == "holds (one seed)" if seed == 0 else said.startswith("inconclusive (needs ")


def part_of(difference, seed_error, image_error, seeds=3, comparisons=1):
    errors = {"seed_error": seed_error, "image_error": image_error}
    part = {"difference": difference, "seeds": seeds, "images": 100, **errors}
    return part | judge(part, comparisons)


def test_an_interval_is_of_seeds_and_of_images():
    """Student's where all variance is of seeds, normal where it is of images; else a sum."""
    assert half_width(part_of(0, 0.01, 0), 0.95) == pytest.approx(0.04303, rel=1e-3)
    assert half_width(part_of(0, 0, 0.01), 0.95) == pytest.approx(0.01960, rel=1e-3)
    assert half_width(part_of(0, 0, 0.01), 0.99) == pytest.approx(0.02576, rel=1e-3)
    assert half_width(part_of(0, 0.01, 0.01), 0.95) == pytest.approx(0.04728, rel=1e-3)
    assert half_width(part_of(0, 0.01, 0), 0.95, seeds=9) == pytest.approx(0.01331, rel=1e-3)
    assert half_width(part_of(0, None, 0.01), 0.95) is None


@pytest.mark.parametrize("of_seeds", [0.002, 0.01, 0.02, 0.04, 0.16])
@pytest.mark.parametrize("num_seeds", [2, 3])
def test_an_interval_contains_the_true_difference_as_often_as_it_says(num_seeds, of_seeds):
    """Of trainings and images drawn anew: 95 of 100 times, and rather more, not less."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(4_000):
        of_images, each = rng.normal(0, 0.01), rng.normal(0, of_seeds, num_seeds)
        seed_error = each.std(ddof=1) / np.sqrt(num_seeds)
        part = part_of(of_images + each.mean(), seed_error, 0.01, num_seeds)
        inside += abs(part["difference"]) < half_width(part, 0.95)
    assert inside / 4_000 > 0.942  # Of 4,000, the standard deviation is 0.0034.


def test_many_differences_refute_a_claim_less_easily():
    """One of them is below 0 by chance more often than the only one."""
    assert significant_sign(part_of(-0.025, 0, 0.01)) == -1
    assert significant_sign(part_of(-0.025, 0, 0.01, comparisons=5)) == 0
    assert significant_sign(part_of(0.025, 0, 0.01, comparisons=5)) == 1


def test_the_seeds_that_a_difference_needs_are_those_at_which_it_is_significant():
    for difference, confidence in ((0.02, 0.95), (-0.02, 1 - 0.05 / 3)):
        part = part_of(difference, 0.01, 0.005, comparisons=3)
        needed = seeds_needed(part)
        assert half_width(part, confidence, seeds=needed) < 0.02
        assert half_width(part, confidence, seeds=needed - 1) > 0.02
        assert images_needed(part) is None
    assert seeds_needed(part_of(0.02, None, 0.001, seeds=1)) is None


def test_where_no_seeds_decide_a_claim_it_says_how_many_images_are_needed_too():
    """Four times the images halve their error. The seeds are those that any images would need."""
    part = part_of(0.01, 0.01, 0.01)  # The half width of 100 images is 1.96 times the difference.
    assert images_needed(part) == 380  # 100 * 1.96^2 = 384.
    needed = seeds_needed(part)
    of_seeds = [half_width({**part, "image_error": 0}, 0.95, seeds=n) for n in (needed, needed - 1)]
    assert needed > 3 and of_seeds[0] < 0.01 < of_seeds[1]
    assert seeds_needed(part_of(0.01, 0.1, 0.01)) is None  # Over 100, whatever the images.
    assert images_needed(part_of(0.01, 0.01, 0.1)) == 38_000  # 38,415.
    assert images_needed(part_of(1e-6, 0.01, 0.01)) == 1_000_000  # At least.
    assert images_needed(part_of(0, 0.01, 0.01)) is None  # As many as one likes.


@pytest.mark.parametrize(
    "seeds, images, said",
    [
        (7, None, "about 7 seeds"),
        (None, None, "over 100 seeds"),
        (3, 3800, "over 3,800 images"),  # There are three.
        (7, 3800, "over 3,800 images and 7 seeds"),
        (None, 3800, "over 3,800 images and 100 seeds"),
    ],
)
def test_an_open_claim_says_what_it_needs(seeds, images, said):
    claim = {"claim": "", "verdict": "inconclusive", "parts": [part_of(0.01, 0.01, 0.01)]}
    claim |= {"decisive": 0, "parts_not_run": 0, "seeds_needed": seeds, "images_needed": images}
    assert verdict_text(claim) == f"inconclusive (needs {said})"


def test_one_seed_is_said_of_the_difference_that_is_shown(tmp_path):
    """Not of another one."""
    for seed in range(3):
        add_run(tmp_path, "table9/batch12", 0.7, seed=seed)
        add_run(tmp_path, "table9/batch16", 0.5, seed=seed)
    for row in ("batch4", "batch8"):
        add_run(tmp_path, f"table9/{row}", 0.4)
    claim = claim_of(tmp_path, "a larger batch is better", "table9")
    assert claim["verdict"] == "does not hold" and {p["seeds"] for p in claim["parts"]} == {1, 3}
    assert verdict_text(claim) == "does not hold" and "one seed" not in claim_cell(claim)


def test_a_claim_of_which_a_part_was_not_run_does_not_hold_yet(tmp_path):
    for seed in range(3):
        add_run(tmp_path, "table9/batch16", 0.7, seed=seed)
        add_run(tmp_path, "table9/batch12", 0.6, seed=seed)
    claim = claim_of(tmp_path, "a larger batch is better", "table9")
    assert significant_sign(claim["parts"][0]) == 1 and claim["parts_not_run"] == 2
    assert claim["verdict"] == "inconclusive" and claim_cell(claim) == "not run"


def test_what_a_scale_changes_of_a_tables_rows_is_beside_them(tmp_path):
    """Of the rows that have been run: Table 6's COCO sets a learning rate, but has no number."""
    add_run(tmp_path, "table9/batch4", 0.5)
    assert cells(collect("table9", "shapes", tmp_path))[0][:3] == [
        "batch4",
        "batch_size 2",
        "64.43",
    ]
    add_run(tmp_path, "table5/mg124_rate24", 0.5)
    row = collect("table5", "shapes", tmp_path)["rows"]["mg124_rate24"]
    assert changed_text(row["changed"]) == "atrous_rates (2,4,6,8)"
    add_run(tmp_path, "base", 0.5)
    add_run(tmp_path, "base", 0.5, scale="paper")
    assert cells(collect("table6", "shapes", tmp_path))[0][1] == "-"
    assert cells(collect("table9", "paper", tmp_path))[3][1] == "-"


def test_an_interval_has_no_impossible_miou(tmp_path):
    for seed, right in enumerate((0.2, 0.5)):
        add_run(tmp_path, "table5/mg111", right, seed=seed)
    low, high = collect("table5", "shapes", tmp_path)["rows"]["mg111"]["seed_interval"]
    assert low == 0 and high == 1


def test_commits_of_all_evaluations_are_named(tmp_path):
    """Also if a training is scored by two of them."""
    for row, commit in (("os16", "aaaaaaa"), ("os8", "bbbbbbb")):
        changed(add_run(tmp_path, f"table6/{row}", 0.5), commit=commit)
    text = summary_in_markdown([collect("table6", "shapes", tmp_path)])
    assert "1 training run, " in text and "commit aaaaaaa, bbbbbbb: " in text


def test_a_verdict_rests_on_one_difference():
    """Of those that are as it says, not on a smaller or greater one."""
    strong, weak = part_of(0.2, 0.01, 0.005), part_of(0.06, 0.01, 0.005)
    assert decisive_part([strong, weak], HOLDS) is weak
    few, many = part_of(0.03, 0.01, 0.005), part_of(0.02, 0.01, 0.005)
    assert decisive_part([weak, few, many, strong], INCONCLUSIVE) is many
    nothing = part_of(0.001, 0.01, 0.005)  # These images do not tell it.
    assert decisive_part([many, nothing, few], INCONCLUSIVE) is nothing
    against, less = part_of(-0.03, 0.01, 0.005), part_of(-0.02, 0.01, 0.005)
    assert decisive_part([many, less, against, nothing], INCONCLUSIVE) is against
    lower, clear = part_of(-0.3, 0.2, 0.005), part_of(-0.2, 0.01, 0.005)
    assert decisive_part([lower, weak, clear], DOES_NOT_HOLD) is clear


def test_what_is_shown_of_an_open_claim_leaves_it_open(tmp_path):
    """Not a smaller difference that is decided."""
    for seed in range(2):
        for row, right in (("os16", 0.60), ("os8", 0.63)):
            add_run(tmp_path, f"table6/{row}", right, seed=seed)
    add_run(tmp_path, "table10/train8_eval8", 0.30)
    add_run(tmp_path, "table10/train8_eval16", 0.30)
    claim = claim_of(tmp_path, "training at 16 and evaluating at 8 is best", "table10")
    first = claim["parts"][claim["decisive"]]
    assert set(first["of"]) != {"train16_eval8", "train16_eval16"} and first["interval"] is None


def test_what_a_claim_shows_is_what_it_needs(tmp_path):
    """The number of seeds is that of the difference beside it."""
    for seed in range(3):
        for row, right in (("batch4", 0.5), ("batch8", 0.6), ("batch12", 0.61), ("batch16", 0.62)):
            add_run(tmp_path, f"table9/{row}", right + 0.1 * seed * (row == "batch8"), seed=seed)
    claim = claim_of(tmp_path, "a larger batch is better", "table9")
    part = claim["parts"][claim["decisive"]]
    assert claim["verdict"] == "inconclusive"
    assert claim["seeds_needed"] == seeds_needed(part)
    assert claim["images_needed"] == images_needed(part)
    (terms,) = re.findall(r"\(([^(:]*): ", claim_line(claim))
    assert terms == " - ".join(part["of"]) and claim_line(claim).endswith("one of 3)")
    assert part["difference"] < 0 and "(98.3% interval)" in claim_line(claim)


def test_a_claim_shows_what_decided_it_and_what_was_not_run(tmp_path):
    for row, right in (("os8", 0.7), ("os16", 0.6), ("os32", 0.62), ("os128", 0.2)):
        for seed in range(3):
            add_run(tmp_path, f"table1/{row}", right, seed=seed)
    claim = claim_of(tmp_path, "a smaller output stride is better", "table1")
    assert claim["verdict"] == "does not hold" and claim["parts_not_run"] == 3
    said = claim_line(claim)
    assert "(os16 - os32: -" in said and said.endswith("differences not run: 3")


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
    sparse = markdown([collect("table5", "shapes", tmp_path)])
    assert "| mg121 | - | 75.93 | - | - | - | - | not run |" in sparse
    for row in ("mg121", "mg124"):
        add_run(tmp_path, f"table5/{row}", 0.6)
    result = collect("table5", "shapes", tmp_path)
    part = markdown([result])
    miou = f"{100 * result['rows']['mg111']['miou']:.2f}"
    assert f"| mg111 | atrous_rates (2,4,6) | 75.36 | {miou} | 1 |" in part
    assert "- image pooling helps: **not run**; differences not run: 1" in part
    readme = f"# Title\n\n{MARKERS[0]}\nearlier\n{MARKERS[1]}\n\nEnd\n"
    once = between_markers(readme, part, MARKERS)
    assert "earlier" not in once and once.startswith("# Title") and once.endswith("End\n")
    assert between_markers(once, part, MARKERS) == once
    with pytest.raises(ValueError, match="must have each of these lines exactly once"):
        between_markers("# Title\n", part, MARKERS)


def test_the_summary_has_every_claim_with_its_verdict_at_each_scale(tmp_path):
    for seed in range(3):
        for row, right in (("mg111", 0.6), ("mg121", 0.7), ("mg124", 0.5)):
            add_run(tmp_path, f"table5/{row}", right, seed=seed)
    add_run(tmp_path, "table5/mg124", 0.6, scale="voc_mobile")
    add_run(tmp_path, "table5/mg124_pooling", 0.6, scale="voc_mobile")
    results = [collect("table5", scale, tmp_path) for scale in ("shapes", "voc_mobile")]
    text = summary_in_markdown(results)
    counts, others, _, explained, _, head, _, *lines, _, effort, other = text.splitlines()
    assert counts == (
        "- `shapes`: of 4 claims, 1 holds, 1 does not, 0 are inconclusive, 2 not run."
    )
    assert others == (
        "- `voc_mobile`: of 2 claims, 0 hold, 0 do not, 1 is inconclusive, 1 not run."
    )
    assert head == "| table | claim | paper | `shapes` | `voc_mobile` |"
    first, second, third, fourth = lines  # Of other tables there is no result.
    part = results[0]["claims"][0]["parts"][0]
    gain, half = part["difference"], part["interval"][1] - part["difference"]
    cell = f"holds, {100 * gain:+.2f} ± {100 * half:.2f}"
    # MobileNetV2 has no unit rates.
    assert first == f"| 5 | (1, 2, 1) beats (1, 1, 1) | +0.57 | {cell} | - |"
    assert second.startswith("| 5 | (1, 2, 4) beats (1, 2, 1) | +0.65 | does not hold, -")
    assert third == "| 5 | a fourth, larger rate hurts | +0.12 | not run | not run |"
    cell = "inconclusive, +0.00 (one seed)"
    assert fourth == f"| 5 | image pooling helps | +0.63 | not run | {cell} |"
    assert "[docs/results.md](docs/results.md)" in explained
    # 20 and 20 steps of 8 images, at 8 and 4 images per second: a minute each.
    command = "`python -m experiments.run table5:"
    rows = "mg111 table5:mg121 table5:mg124 --scale=shapes --seeds=3"
    assert effort == f"- 9 training runs, 0.1 hours, commit 1234567: {command}{rows}`"
    rows = "mg124 table5:mg124_pooling --scale=voc_mobile"
    assert other == f"- 2 training runs, 0.0 hours, commit 1234567: {command}{rows}`"
    add_run(tmp_path, "table5/mg124_rate24", 0.6, scale="voc_mobile")
    whole = summary_in_markdown([collect("table5", "voc_mobile", tmp_path)])
    assert "`python -m experiments.run table5 --scale=voc_mobile`" in whole


def test_the_summary_sets_like_against_like(tmp_path):
    """Of a claim of several differences, the range of the paper's and the decisive one of ours."""
    for row, right in (("batch4", 0.5), ("batch8", 0.6), ("batch12", 0.65)):
        add_run(tmp_path, f"table9/{row}", right)
    for seed in range(2):
        add_run(tmp_path, "table9/batch16", 0.7, seed=seed)
        add_run(tmp_path, "table6/os8", 0.8, seed=seed)
    results = [collect(table, "shapes", tmp_path) for table in ("table6", "table9")]
    text = summary_in_markdown(results)
    (claim,) = results[1]["claims"]
    part = claim["parts"][claim["decisive"]]
    cell = f"inconclusive, {100 * part['difference']:+.2f} (one seed)"
    assert f"| 9 | a larger batch is better | +0.72 to +11.33 | {cell} |" in text
    two, one = "table6:os16 table6:os8 --scale=shapes --seeds=2", "table9 --scale=shapes"
    run = "python -m experiments.run"
    assert text.endswith(f": `{run} {two}`, `{run} {one}`")


def test_the_page_needs_no_other_file_and_links_to_the_runs_pages(tmp_path):
    for row, right in (("os8", 0.6), ("os16", 0.5), ("os256", 0.2)):
        file = add_run(tmp_path, f"table1/{row}", right)
    add_run(tmp_path, "table5/mg111", 0.6)
    file.with_suffix(".html").write_text("its page")
    results = [collect(table, "shapes", tmp_path) for table in ("table1", "table5")]
    page = tmp_path / "report" / "report.html"
    page.parent.mkdir()
    write_report_page(page, tmp_path, find_runs(tmp_path), results, published=False)
    text = page.read_text()
    assert text.count("<img ") == 2  # Of Table 1; one row of Table 5 makes no plot.
    assert f"<h1>Report of {tmp_path}</h1>" in text and "Table 1: ResNet-50 with block7" in text
    sources = re.findall(r'src="([^"]*)"', text)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    links = set(re.findall(r'href="([^#"]*)"', text))
    targets = set(re.findall(r'href="#([^"]*)"', text))
    assert targets == {"claims", "shapes"} and all(f'id="{name}"' in text for name in targets)
    assert links == {"../shapes/table1/os256/eval.html"}
    assert (page.parent / links.pop()).read_text() == "its page"
    for _, verdict in re.findall(r"<li>([^:]*): <b>(.*?)</b>", text):
        assert f"<b>{verdict}</b>:" in text or f"is {verdict}</b>:" in text  # It is explained.


@pytest.mark.parametrize(
    "table, run", [("table1", ("os8", "os256")), ("table5", ("mg111", "mg124"))]
)
def test_a_pair_of_plots_shows_the_rows_that_were_run_on_equal_axes(
    table, run, tmp_path, monkeypatch
):
    for row, right in zip(run, (0.5, 0.7), strict=True):
        add_run(tmp_path, f"{table}/{row}", right)
    figures = []
    monkeypatch.setattr(plots, "figure_png", figures.append)
    result, name = collect(table, "shapes", tmp_path), table.replace("table", "Table ")
    assert list(plots.plot_pair(result)) == [f"{name}, the paper", f"{name}, ours, scale shapes"]
    paper, ours = (figure.axes[0] for figure in figures)
    assert paper.get_xlim() == ours.get_xlim() and paper.get_ylim() == ours.get_ylim()
    names = [
        label.get_text()
        for label in (ours.get_yticklabels if table == "table5" else ours.get_xticklabels)()
    ]
    assert [name.replace("os", "") for name in run] == names
    across, up = (ours.get_xlim(), ours.get_ylim())[:: -1 if table == "table1" else 1]
    for axes in (paper, ours):
        values = axes.lines[0].get_xydata()[:, 1 if table == "table1" else 0]
        assert len(values) == 2 and all(across[0] < value < across[1] for value in values)
    del result["rows"][run[0]]
    assert not plots.plot_pair(result)


def start(monkeypatch, capsys, *arguments):
    """Runs the command here -> its exit code or message, and what it printed."""
    monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments)])
    code = 0
    try:
        report.main()
    except SystemExit as stopped:
        code = stopped.code
    return code, capsys.readouterr().out


def shown_plots(page):
    """The text of docs/results.md -> the names of the plots that it shows."""
    return set(re.findall(r"\]\(../experiments/results/plots/(.*?)\)", page))


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A copy of what is published, in place of it -> a function that reads all of it."""
    root = tmp_path / "repository"
    for name in ("README.md", "docs/results.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    results = ROOT / "experiments/results"
    shutil.copytree(results, root / results.relative_to(ROOT), ignore=lambda *_: ["runs"])
    monkeypatch.setattr(publish, "ROOT", root)
    monkeypatch.setattr(publish, "RESULTS", root / "experiments/results")
    return lambda: {
        str(file.relative_to(root)): file.read_text()
        for file in root.rglob("*")
        if file.suffix in (".json", ".md") and "runs" not in file.parts
    }


def test_in_a_fresh_clone_the_published_results_are_shown(tmp_path, published, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = published()
    code, out = start(monkeypatch, capsys)
    assert code == 0 and "no runs in runs/" in out and "shows the published results" in out
    page = (tmp_path / "runs/report/report.html").read_text()
    rows = json.loads(before["experiments/results/shapes_table5.json"])["rows"]
    assert "<h1>Published results</h1>" in page
    assert f"<td>{100 * rows['mg124_pooling']['miou']:.2f}</td>" in page
    assert start(monkeypatch, capsys, "--publish")[0] == 0  # The pages anew, from the same JSONs.
    assert published() == before
    code, _ = start(monkeypatch, capsys, "--runs=elsewhere")
    assert code == "error: --runs=elsewhere: not a directory."


def test_own_runs_change_nothing_that_is_published(tmp_path, published, monkeypatch, capsys):
    """And the JSON of runs that are gone is gone."""
    before, runs = published(), tmp_path / "runs"
    file = add_run(runs, "table5/mg111", 0.6)
    code, out = start(monkeypatch, capsys, f"--runs={runs}")
    assert code == 0 and str(file.parent) in out and published() == before
    written = json.loads((runs / "report/shapes_table5.json").read_text())
    assert written["rows"]["mg111"]["miou"] == json.loads(file.read_text())["miou"]
    assert "Published results" not in (runs / "report/report.html").read_text()
    shutil.rmtree(file.parent)
    start(monkeypatch, capsys, f"--runs={runs}")
    assert [path.name for path in (runs / "report").iterdir()] == ["report.html"]


def test_publish_says_what_changes_and_drops_no_number(tmp_path, published, monkeypatch, capsys):
    shutil.rmtree(publish.RESULTS)
    first, runs = tmp_path / "first", tmp_path / "runs"
    for row in ("table1/os8", "table1/os16", "table1/os32", "table9/batch16", "table4/os16"):
        add_run(first, row, 0.4)
    start(monkeypatch, capsys, f"--runs={first}", "--publish")
    for seed in (0, 1):
        add_run(runs, "table1/os8", 0.7, seed=seed)
    add_run(runs, "table9/batch4", 0.6)
    before = published()
    old = json.loads(before["experiments/results/shapes_table1.json"])["rows"]["os8"]["miou"]
    code, _ = start(monkeypatch, capsys, f"--runs={runs}", "--publish")
    assert published() == before
    assert "shapes_table1.json: os16 (seed 0), os32 (seed 0)" in code
    assert "shapes_table9.json: batch16 (seed 0)" in code
    assert "shapes_table8.json: base (seed 0)" in code  # The run of batch16 is that of base.
    assert "table4" not in code
    (command,) = [line for line in code.splitlines() if "experiments.run" in line]
    advised = [word for word in command.split() if ":" in word]
    for row in advised:
        add_run(runs, row.replace(":", "/"), 0.5)
    code, out = start(monkeypatch, capsys, f"--runs={runs}", "--publish")
    assert code == 0
    after = published()
    rows = {
        name: json.loads(after[f"experiments/results/shapes_{name}.json"])["rows"]
        for name in ("table1", "table9")
    }
    miou = f"{100 * rows['table1']['os8']['miou']:.2f}"
    old = f"{100 * old:.2f} (1 seed, commit 1234567)"
    assert f"os8: {old} -> {miou} (2 seeds, commit 1234567)" in out
    assert "shapes_table9.json rows: 1 new, 1 changed, 0 as before\n" in out
    assert f"  batch4: new, {100 * rows['table9']['batch4']['miou']:.2f} (1 seed" in out
    assert f"| os8 | backbone resnet_tiny_shallow | 75.18 | {miou} |" in after["docs/results.md"]
    assert shown_plots(after["docs/results.md"]) == {
        file.name for file in (publish.RESULTS / "plots").iterdir()
    }
    assert "| 9 | a larger batch is better | +0.72 to +11.33 | not run |" in after["README.md"]
    untouched = "experiments/results/shapes_table4.json"
    assert after[untouched] == before[untouched]


def test_what_the_numbers_are_computed_from_is_published(tmp_path, published, monkeypatch, capsys):
    shutil.rmtree(publish.RESULTS)
    for seed in (0, 1):
        for row in ("table6/os16", "table6/os8", "table5/mg124"):
            file = add_run(tmp_path / "runs", row, 0.6, seed=seed)
    (file.parent / "checkpoints").mkdir()
    start(monkeypatch, capsys, f"--runs={tmp_path / 'runs'}", "--publish")
    before, copies = published(), publish.RESULTS / "runs"
    names = {copy.name for copy in (copies / file.parent.relative_to(tmp_path / "runs")).iterdir()}
    assert names == {"config.json", "log.csv", "eval.json", "eval.npz"}
    start(monkeypatch, capsys, f"--runs={copies}", "--publish")
    assert published() == before
    (work,) = plan(tables.find_rows(["table6:os8"]), scale="shapes", seed=1, runs=copies)
    assert not remaining(work)  # A copy of them is where more seeds start.


def test_the_published_numbers_are_those_of_the_published_runs():
    """Table 5 of each scale, for the sake of time."""
    for result in publish.read_results():
        if result["table"] == "table5":
            again = collect("table5", result["scale"], publish.RESULTS / "runs")
            for row, numbers in result["rows"].items():
                for number in ("miou", "image_interval", "seed_interval"):
                    assert again["rows"][row].get(number) == pytest.approx(numbers.get(number))
            assert list(map(claim_line, again["claims"])) == list(map(claim_line, result["claims"]))


def test_every_run_is_listed_with_what_its_files_say(tmp_path):
    file = add_run(tmp_path, "table5/mg111", 0.6)
    config = json.loads(file.with_name("config.json").read_text())
    own = tmp_path / "pets" / "first"
    own.mkdir(parents=True)
    config |= {"steps": 300, "train_data": {**config["train_data"], "dataset": "folder/pets"}}
    write_json(own / "config.json", config)
    (own / "log.csv").write_text("step,loss\n20,1\n40,1\n60")  # The last line is cut.
    (own / "evaluations.csv").write_text("step,miou,cat\n20,0.5,0.5\n40,0.4,0.4\n")
    write_json(own / "best.json", {"step": 20, "miou": 0.5, "chosen_on": "folder/pets, val"})
    (own / "eval.html").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    broken, pets, row = find_runs(tmp_path)
    assert broken.cells()[0] == str(tmp_path / "broken") and broken.data == "damaged"
    assert (pets.folder, pets.page) == (own, own / "eval.html")
    assert pets.cells()[1:4] == ["40 of 300", "40.00", "50.00, step 20"]
    assert pets.data == "folder/pets: train, shapes: val"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", pets.date)
    miou = 100 * json.loads(file.read_text())["miou"]  # It has no evaluations.csv.
    assert row.cells()[1:4] == ["40 of 1800", f"{miou:.2f}", "-"]
    assert row.page is None and row.data == "shapes: train, val"


def test_the_pages_of_this_repository_are_what_its_results_say():
    """Nobody typed a number."""
    results = publish.read_results()
    docs_page = (ROOT / "docs/results.md").read_text()
    assert between_markers(docs_page, markdown(results), MARKERS) == docs_page
    plots = {file.name for file in (publish.RESULTS / "plots").iterdir()}
    assert shown_plots(docs_page) == plots and plots
    readme = (ROOT / "README.md").read_text()
    assert between_markers(readme, summary_in_markdown(results), MARKERS) == readme
