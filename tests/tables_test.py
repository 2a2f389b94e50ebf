"""The tables: every cell of the paper is a row, every row builds, none is trained twice."""

import functools
import inspect

import keras
import pytest

from data.pipeline import train_batches
from evaluation.evaluator import Evaluator
from experiments import base, protocols, tables
from model.deeplabv3 import deeplabv3
from training.run_folder import flat

ROWS = tables.find_rows(tables.TABLES)
RUNS = list(tables.training_runs(ROWS))
BY_SCALE = pytest.mark.parametrize("scale", base.SCALES)

# Each table's cells in percent, as the paper has them from left to right and top to bottom.
PRINTED = {
    "table1": [75.18, 73.88, 70.06, 59.99, 42.34, 20.29],
    "table2": [64.81, 72.14, 74.29, 73.88, 68.39, 73.21, 75.34, 75.76],
    "table3": [
        *(68.39, 73.21, 75.34, 75.76),
        *(70.23, 75.67, 76.09, 76.66),
        *(73.14, 75.78, 75.96, 76.11),
        *(73.45, 75.74, 75.85, 76.02),
        *(71.45, 74.30, 74.70, 74.62),
    ],
    "table4": [76.66, 78.05, 78.93, 79.35],
    "table5": [75.36, 75.93, 76.58, 76.46, 77.21],
    "table6": [77.21, 78.51, 79.45, 79.77, 82.70],
    "table7": [85.7, 86.9],
    "table8": [77.21, 75.95, 76.01, 67.22],
    "table9": [64.43, 75.76, 76.49, 77.21],
    "table10": [74.45, 75.62, 77.21, 78.51, 75.90, 75.75],
    "table11": [77.21, 77.15, 76.79, 77.02, 77.18, 76.69],
    "table12": [77.23, 77.82, 79.06, 79.30],
    "table13": [81.3],
}


@functools.cache
def fields(run, scale="paper"):
    """A run or a row -> its dotted fields."""
    return flat(base.as_data(tables.config_of(run, scale)))


def training_fields(run, scale="paper"):
    """Those that its weights depend on."""
    evaluation = ("eval.", "eval_data.")
    return {
        field: value
        for field, value in fields(run, scale).items()
        if field != "name" and not field.startswith(evaluation)
    }


@pytest.mark.parametrize("table", tables.TABLES)
def test_every_cell_of_the_paper_is_a_row(table):
    assert [row.paper_miou for row in tables.TABLES[table].ROWS.values()] == PRINTED[table]


def test_others_published_numbers_stand_beside_those_of_the_servers():
    assert len(tables.TABLES["table7"].PUBLISHED) == 15
    assert sum(tables.TABLES["table7"].PUBLISHED.values()) == pytest.approx(1245.1)
    assert sum(tables.TABLES["table13"].PUBLISHED.values()) == pytest.approx(322.4)
    assert sum(tables.TABLES["table11"].PAPER_RELATIVE_TIMES.values()) == pytest.approx(1.97)


def rows_at(scale):
    """The rows of all tables that a scale offers, those that lack a device or data included."""
    return {
        name: row for name, row in ROWS.items() if not base.unavailable_at(scale, row.overrides)
    }


@BY_SCALE
def test_every_row_has_a_whole_config(scale):
    number = {"paper": len(ROWS), "voc_mobile": 34, "voc_mobile_aspp": 35}
    number["shapes"] = len(ROWS) - 6  # Without Cityscapes, and without frozen batch norm.
    assert len(rows_at(scale)) == number.get(scale, len(ROWS) - 1)  # All but frozen batch norm.
    for name in rows_at(scale):
        config = tables.config_of(name, scale)
        assert config.name == base.run_name(name, scale)
        for field in ("steps", "eval_every", "learning_rate"):
            assert config[field] > 0, (name, field)
        crop, stride = config.train_data.crop_size, config.model.output_stride
        assert crop % stride == 1 and config.train_data.batch_size >= 1, name
        assert config.model.num_classes == {"cityscapes": 19}.get(config.train_data.dataset, 21)


@BY_SCALE
def test_a_row_differs_from_its_run_in_the_evaluation_alone(scale):
    for name, row in rows_at(scale).items():
        run = row.shares or name
        assert training_fields(name, scale) == training_fields(run, scale), name
        assert (
            tables.row_of(run).shares in ("", run)
            and tables.row_of(run).starts_from == row.starts_from
        )
    assert {"base", "table2/resnet50_block7", "table3/mg111_block4", "protocols/test"} <= set(RUNS)


@pytest.mark.parametrize("scale", ["paper", "voc_small", "shapes"])
def test_nothing_is_trained_twice(scale):
    """But for Table 11, whose runs differ in the devices alone."""
    trainings = {}
    for run in tables.training_runs(ROWS, scale):
        key = (tables.row_of(run).devices, *map(str, training_fields(run, scale).items()))
        assert key not in trainings, (run, trainings.get(key))
        trainings[key] = run


def test_a_miniature_of_one_data_set_has_no_rows_about_another():
    rows = tables.find_rows(["table6", "table7", "table12", "table13"], "shapes")
    there = [name for name, row in rows.items() if not row.unavailable]
    assert there == ["table6/os16", "table6/os8", "table6/os8_ms", "table6/os8_ms_flip"]
    assert "another data set" in rows["table6/coco"].unavailable  # For what it starts from.
    with pytest.raises(ValueError, match="protocols/coco is not available.*another data set"):
        tables.config_of("protocols/coco", "shapes")
    assert not tables.row_of("table6/coco", "voc_mobile_aspp").unavailable


def test_rows_that_share_a_number_share_a_run():
    shared = {77.21: 6, 76.66: 2, 78.51: 2, 73.88: 2, 68.39: 2, 73.21: 2, 75.34: 2}
    for paper_miou, times in shared.items():
        runs = [row.shares or name for name, row in ROWS.items() if row.paper_miou == paper_miou]
        assert len(runs) == times and len(set(runs)) == 1, (paper_miou, runs)
    assert {row.shares for row in ROWS.values() if row.paper_miou == 77.21} == {"base"}


def test_table_10_scores_each_training_twice():
    printed = [  # Train OS, batch, eval OS, mIoU.
        (8, 6, 16, 74.45),
        (8, 6, 8, 75.62),
        (16, 16, 16, 77.21),
        (16, 16, 8, 78.51),
        (32, 24, 16, 75.90),
        (32, 24, 8, 75.75),
    ]
    names = ("model.output_stride", "train_data.batch_size", "eval.output_stride")
    ours = [
        (*(fields(name)[field] for field in names), row.paper_miou)
        for name, row in ROWS.items()
        if name.startswith("table10/")
    ]
    assert ours == printed
    assert len(tables.training_runs(tables.find_rows(["table10"]))) == 3


def test_what_a_row_varies_is_what_the_paper_prints():
    """Of each kind of row one, spelt out."""
    expected = {
        "table1/os64": {
            "model.backbone": "resnet50_keras",
            "model.output_stride": 64,
            "steps": 30_000,
        },
        "table3/mg123_block6": {"model.multi_grid": [1, 2, 3], "model.num_blocks": 6},
        "table4/os8_ms": {
            "eval.output_stride": 8,
            "eval.scales": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75],
            "eval.flip": False,
            "model.multi_grid": [1, 2, 1],
            "model.output_stride": 16,
        },
        "table5/mg124_rate24": {
            "model.atrous_rates": [6, 12, 18, 24],
            "model.image_pooling": False,
            "model.multi_grid": [1, 2, 4],
        },
        "table6/coco": {"learning_rate": 0.0001, "init_from.path": "runs/protocols/coco"},
        "table7/deeplabv3": {"eval_data.split": "test", "freeze_batch_norm": True},
        "table8/labels_downsampled": {"upsample_logits": False},
        "table9/batch12": {"train_data.batch_size": 12, "learning_rate": 0.007},
        "table12/os8_ms_flip": {
            "eval.scales": [0.75, 1.0, 1.25],
            "train_data.crop_size": 769,
            "steps": 90_000,
            "train_data.split": "train_fine",
            "eval_data.split": "val_fine",
        },
        "table13/deeplabv3": {"eval_data.split": "test", "init_from.path": "runs/protocols/coarse"},
    }
    for name, values in expected.items():
        assert {field: fields(name)[field] for field in values} == values, name


def test_a_miniature_is_on_made_up_shapes_and_has_their_classes():
    for name in rows_at("shapes"):
        config = tables.config_of(name, "shapes")
        assert config.train_data.dataset == config.eval_data.dataset == "shapes"
        assert (config.train_data.split, config.eval_data.split) == ("train", "val")


@BY_SCALE
def test_every_config_binds_to_the_functions_that_it_feeds(scale):
    stages = [f"protocols/{row}" for row in protocols.ROWS]
    there = [name for name in stages if not tables.row_of(name, scale).unavailable]
    assert "protocols/stage2" in there
    for name in [*rows_at(scale), *there]:
        config = tables.config_of(name, scale)
        inspect.signature(deeplabv3).bind(**config.model)
        inspect.signature(Evaluator).bind(None, **config.eval_data, **config.eval)
        train = {k: v for k, v in config.train_data.items() if k != "dataset"}
        split = train.pop("split")
        inspect.signature(train_batches).bind(None, split, **train, mean_pixel=None, seed=0)


def test_every_row_builds_its_models():
    """Those of training and of evaluation, on a small backbone of the same plan."""
    models = set()
    for name in [*ROWS, *RUNS]:
        config = tables.config_of(name)
        for output_stride in (config.model.output_stride, config.eval.output_stride):
            model = {**config.model, "output_stride": output_stride}
            models.add(tuple({**model, "backbone": "resnet_tiny_shallow"}.items()))
    assert len(models) > 30
    for arguments in models:
        model = dict(arguments)
        with keras.StatelessScope():  # Shapes are wanted, not weights.
            built = deeplabv3(**model)
        convs = [layer for layer in built.layers if layer.name.endswith("_2_conv")]
        assert len(convs) == 3 + 3 * (model["num_blocks"] - 3)
        branches = [layer for layer in built.layers if layer.name.startswith("aspp_atrous")]
        assert len(branches) == 3 * len(model["atrous_rates"] or ())
        pooled = any(layer.name == "aspp_pool" for layer in built.layers)
        assert pooled == (model["image_pooling"] and model["atrous_rates"] is not None)
        assert built.output.shape[-1] == model["num_classes"]


def test_runs_come_after_those_whose_weights_they_start_from():
    assert list(tables.training_runs(tables.find_rows(["table7"]))) == [
        "protocols/coco",
        "protocols/coco_to_voc",
        "protocols/test",
    ]
    runs = tables.training_runs(tables.find_rows(["table5:mg111", "table8:base", "table6"]))
    assert list(runs.items()) == [
        ("table5/mg111", "table5"),
        ("base", "table8"),  # And of Table 6, too.
        ("protocols/coco", "table6"),
        ("protocols/coco_to_voc", "table6"),
    ]
    assert RUNS.index("protocols/coarse") < RUNS.index("protocols/fine")
    assert not [run for run in RUNS if tables.row_of(run).unavailable]


@pytest.mark.parametrize(
    "name, said",
    [
        ("table99", "No table 'table99'; there are table1, table2"),
        ("table9:mg", "No row 'mg' in table9; there are batch4, batch8"),
    ],
)
def test_what_is_not_there_lists_what_is(name, said):
    with pytest.raises(ValueError, match=said):
        tables.find_rows([name])
