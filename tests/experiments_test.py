"""Configs: the paper's protocol, rows that differ from it and in nothing else, misspelt fields."""

import re

import pytest

from data.build import BUILDERS
from experiments import base, protocols, table1, table2, table3, table5, table8, table9, tables
from model.backbones import BACKBONES
from model.deeplabv3 import deeplabv3
from pretrained.keras_applications import IMAGENET
from training.run_folder import flat


def test_the_base_is_the_protocol_of_section_4():
    config = base.get_config()
    assert (config.steps, config.learning_rate) == (30_000, 0.007)
    assert (config.train_data.batch_size, config.train_data.crop_size) == (16, 513)
    assert (config.train_data.split, config.eval_data.split) == ("trainaug", "val")
    assert (config.model.output_stride, config.eval.output_stride) == (16, 16)
    assert config.model.batch_norm_decay == 0.9997


def test_the_base_starts_from_imagenet_and_small_scales_from_random_weights():
    """ "init: ImageNet ResNet" (Sec. 4.1); which, the backbone's name says."""
    config = base.get_config()
    assert config.init_from.to_dict() == {"path": "imagenet", "part": "backbone", "strict": True}
    assert config.model.backbone in IMAGENET
    for scale in ("shapes", "voc_small"):
        small = base.get_config(scale)
        assert small.init_from.path == "" and small.init_from.part == "whole"
        assert small.model.backbone == "resnet_tiny"


def test_the_base_untouched_is_the_last_row_of_table_5():
    last = list(table5.ROWS)[-1]
    assert table5.ROWS[last].paper_miou == 77.21
    ours, theirs = (
        flat(base.as_data(config)) for config in (base.get_config(), table5.get_config(last))
    )
    assert {field for field in ours if ours[field] != theirs[field]} == {"name"}


def test_the_constructors_defaults_are_those_of_the_base():
    config = base.get_config()
    defaults = deeplabv3.__kwdefaults__ | {"backbone": deeplabv3.__defaults__[0]}
    assert defaults == {**config.model, "precision": config.precision}


@pytest.mark.parametrize("scale", [name for name, scale in base.SCALES.items() if scale.has_blocks])
@pytest.mark.parametrize("row", table5.ROWS)
def test_a_scale_changes_size_and_no_idea(row, scale):
    config = table5.get_config(f"{row}@{scale}")
    paper = table5.get_config(row)
    for field in ("multi_grid", "image_pooling", "num_blocks", "output_stride"):
        assert config.model[field] == paper.model[field]
    divisor = 1 if scale == "paper" else 3
    assert [divisor * rate for rate in config.model.atrous_rates] == list(paper.model.atrous_rates)
    assert config.model.backbone in BACKBONES and config.train_data.dataset in BUILDERS
    assert config.name == (f"table5/{row}" if scale == "paper" else f"{scale}/table5/{row}")


def test_a_rows_sizes_shrink_with_the_scale():
    """Paper to shapes: crop 513 to 129, batch 16 to 8, rate 0.007 to 0.05."""
    crop = table8.get_config("crop321@shapes").train_data.crop_size
    assert crop == 81  # 1 + 320 * 128 / 512, a multiple of 16, plus 1.
    assert table8.get_config("crop321@voc_small").train_data.crop_size == 161
    assert table9.get_config("batch4@shapes").train_data.batch_size == 2
    assert protocols.get_config("stage2@shapes").learning_rate == pytest.approx(0.05 / 7)


def test_protocols_start_from_the_run_before_them():
    stage2 = protocols.get_config("stage2")
    assert stage2.freeze_batch_norm and stage2.learning_rate == 0.001
    assert stage2.model.output_stride == stage2.eval.output_stride == 8
    assert stage2.train_data.split == "trainval" and stage2.steps == 30_000
    assert stage2.init_from.path == f"runs/{base.get_config().name}"
    small = protocols.get_config("stage2@shapes")
    assert small.init_from.path == f"runs/{base.get_config('shapes').name}"
    coco, voc = protocols.get_config("coco"), protocols.get_config("coco_to_voc")
    assert coco.train_data.dataset == "coco_voc21/per_region"
    assert (coco.init_from.path, coco.init_from.part) == ("imagenet", "backbone")
    for config in (stage2, small, voc):
        assert config.init_from.part == "whole"
    assert voc.init_from.path == f"runs/{coco.name}" and voc.learning_rate == 0.0001
    test = protocols.get_config("test")
    assert test.init_from.path == f"runs/{voc.name}" and test.train_data.hard_class_factor == 2


def test_a_small_scale_keeps_the_deeper_backbone_deeper():
    backbones = [
        BACKBONES[table2.get_config(f"{row}_block7@shapes").model.backbone]
        for row in ("resnet50", "resnet101")
    ]
    assert backbones[1] == BACKBONES[base.get_config("shapes").model.backbone]
    assert sum(backbones[0].num_units) < sum(backbones[1].num_units)
    assert backbones[0].width == backbones[1].width


@pytest.mark.parametrize("scale", [name for name, scale in base.SCALES.items() if scale.has_blocks])
@pytest.mark.parametrize("output_stride", [8, 16, 32, 64, 128, 256])
def test_features_lie_on_the_pixels_of_a_crop_at_every_scale(scale, output_stride):
    crop = table1.get_config(f"os{output_stride}@{scale}").train_data.crop_size
    assert crop % output_stride == 1 and crop >= base.get_config(scale).train_data.crop_size


def test_the_mobile_scale_has_the_authors_network_and_no_rows_on_resnets():
    config = base.get_config("voc_mobile")
    assert config.model.backbone == "mobilenet_v2" and config.model.multi_grid == (1, 1, 1)
    assert config.model.atrous_rates == () and config.model.image_pooling
    assert (config.init_from.path, config.init_from.part) == ("imagenet", "backbone")
    rows = tables.find_rows([f"table{i}" for i in range(1, 12)], "voc_mobile")
    there = [name for name, row in rows.items() if not row.unavailable]
    aspp = {
        "mg124": ((), False),
        "mg124_rate24": ((2, 4, 6, 8), False),
        "mg124_pooling": ((), True),
    }
    for row, expected in aspp.items():
        model = table5.get_config(f"{row}@voc_mobile").model
        assert (model.atrous_rates, model.image_pooling) == expected
        assert model.multi_grid == (1, 1, 1) and f"table5/{row}" in there
    assert "table6/os8_ms_flip" in there
    assert "table10/train32_eval8" in there and "table8/crop321" in there
    assert "table8/batch_norm_frozen" not in there  # It is frozen in all of them.
    assert not [name for name in there if re.match("table[1-4]/|table5/mg1[12]1", name)]
    for name in there:
        deeplabv3(**tables.config_of(name, "voc_mobile").model)
    with pytest.raises(ValueError, match="table5/mg121 is not available at the scale voc_mobile"):
        table5.get_config("mg121@voc_mobile")
    with pytest.raises(ValueError, match="table3/mg111_block4 .*blocks of ResNets"):
        table3.get_config("mg111_block4@voc_mobile")


def test_the_mobile_scale_for_claims_has_the_papers_aspp_and_batch_norm():
    """All rows of the other one, with rates beside none; and the one that freezes batch norm."""
    aspp = {
        "mg124": ((2, 4, 6), False),
        "mg124_rate24": ((2, 4, 6, 8), False),
        "mg124_pooling": ((2, 4, 6), True),
    }
    for row, expected in aspp.items():
        config = table5.get_config(f"{row}@voc_mobile_aspp")
        assert (config.model.atrous_rates, config.model.image_pooling) == expected
        assert config.model.multi_grid == (1, 1, 1) and not config.freeze_batch_norm
    assert table8.get_config("batch_norm_frozen@voc_mobile_aspp").freeze_batch_norm
    for name, row in tables.find_rows(["table5", "table8"], "voc_mobile_aspp").items():
        assert bool(row.unavailable) == (name in ("table5/mg111", "table5/mg121"))


def test_an_unknown_row_lists_the_rows():
    with pytest.raises(ValueError, match="'mg999' in table5; there are mg111, mg121, mg124"):
        table5.get_config("mg999")
    with pytest.raises(ValueError, match="'' in table5; there are mg111"):
        table5.get_config()


def test_an_unknown_scale_lists_the_scales():
    with pytest.raises(ValueError, match="'huge'; there are paper, shapes, voc_small, voc_mobile"):
        table5.get_config("mg111@huge")


def test_a_misspelt_override_fails_and_is_named():
    with pytest.raises(KeyError, match="output_strid"):
        base.make_config("x", {"model.output_strid": 8})
