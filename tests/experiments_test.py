"""Configs: the paper's protocol, rows that differ from it and in nothing else, misspelt fields."""

import pytest

from data.build import BUILDERS
from experiments import base, table5
from experiments.runs import build_model, flat
from model.deeplabv3 import deeplabv3
from model.resnet import BACKBONES


def test_the_base_is_the_protocol_of_section_4():
    config = base.get_config()
    assert (config.steps, config.learning_rate) == (30_000, 0.007)
    assert (config.train_data.batch_size, config.train_data.crop_size) == (16, 513)
    assert (config.train_data.split, config.eval_data.split) == ("trainaug", "val")
    assert (config.model.output_stride, config.eval.output_stride) == (16, 16)
    assert config.model.batch_norm_decay == 0.9997


def test_the_base_untouched_is_the_last_row_of_table_5():
    last = list(table5.ROWS)[-1]
    assert table5.ROWS[last].paper_miou == 77.21
    ours, theirs = flat(base.get_config()), flat(table5.get_config(last))
    assert {field for field in ours if ours[field] != theirs[field]} == {"name"}


def test_the_constructors_defaults_are_those_of_the_base():
    assert deeplabv3.__kwdefaults__ | {"backbone": deeplabv3.__defaults__[0]} == dict(
        base.get_config().model
    )


def test_table_5_is_as_printed():
    printed = {  # Multi-grid, ASPP, image pooling, mIoU.
        ((1, 1, 1), (6, 12, 18), False, 75.36),
        ((1, 2, 1), (6, 12, 18), False, 75.93),
        ((1, 2, 4), (6, 12, 18), False, 76.58),
        ((1, 2, 4), (6, 12, 18, 24), False, 76.46),
        ((1, 2, 4), (6, 12, 18), True, 77.21),
    }
    ours = set()
    for name, row in table5.ROWS.items():
        model = table5.get_config(name).model
        ours.add((model.multi_grid, model.atrous_rates, model.image_pooling, row.paper_miou))
    assert ours == printed


@pytest.mark.parametrize("scale", base.SCALES)
@pytest.mark.parametrize("row", table5.ROWS)
def test_a_scale_changes_size_and_no_idea(row, scale):
    config = table5.get_config(f"{row}@{scale}")
    paper = table5.get_config(row)
    for field in ("multi_grid", "image_pooling", "num_blocks", "output_stride"):
        assert config.model[field] == paper.model[field]
    divisor = base.SCALES[scale].rate_divisor
    assert [divisor * rate for rate in config.model.atrous_rates] == list(paper.model.atrous_rates)
    assert config.model.backbone in BACKBONES and config.train_data.dataset in BUILDERS
    assert config.name == (f"table5/{row}" if scale == "paper" else f"{scale}/table5/{row}")


def test_every_row_builds_a_model_in_miniature():
    for row in table5.ROWS:
        build_model(table5.get_config(f"{row}@shapes"))


def test_an_unknown_row_lists_the_rows():
    with pytest.raises(ValueError, match="'mg999' in table5; there are mg111, mg121, mg124"):
        table5.get_config("mg999")
    with pytest.raises(ValueError, match="'' in table5; there are mg111"):
        table5.get_config()


def test_an_unknown_scale_lists_the_scales():
    with pytest.raises(ValueError, match="'huge'; there are paper, shapes, voc_small"):
        table5.get_config("mg111@huge")


def test_a_misspelt_override_fails_and_is_named():
    with pytest.raises(KeyError, match="output_strid"):
        base.make_config("x", {"model.output_strid": 8})
