"""The dilation sheet: rates by the paper's own table, taps counted one by one, rules that break."""

import itertools
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import model.resnet
from experiments import base, dilations, tables
from model.deeplabv3 import deeplabv3
from model.plan import Window

# Rates of block1 to block7 at each output_stride, unit rates (1, 1, 1): Sec. 3.1, 3.2, Fig. 3. The
# stride of a block's input, and at 513 its side, follow from the first block that is atrous.
RATES = {
    8: (1, 1, 2, 4, 8, 16, 32),
    16: (1, 1, 1, 2, 4, 8, 16),
    32: (1, 1, 1, 1, 2, 4, 8),
    64: (1, 1, 1, 1, 1, 2, 4),
    128: (1, 1, 1, 1, 1, 1, 2),
    256: (1, 1, 1, 1, 1, 1, 1),
}
SIDE_AT_513 = {8: 65, 16: 33, 32: 17, 64: 9, 128: 5, 256: 3}
ASPP_RATES = {8: [12, 24, 36], 16: [6, 12, 18], 32: [3, 6, 9]}  # Sec. 3.3.


def sheets(*names, scale="paper"):
    """Rows -> their sheets at the output_strides of training and of evaluation."""
    for name in tables.without_missing(tables.find_rows(names, scale), scale):
        config = tables.config_of(name, scale)
        for stride in {config.model.output_stride, config.eval.output_stride}:
            yield dilations.make_sheet(
                name, config, output_stride=stride, image_size=config.train_data.crop_size
            )


def units(sheet, block):
    return [conv for conv in sheet.convs if conv.name.startswith(f"block{block}_")]


@pytest.mark.parametrize("output_stride", RATES)
def test_rates_of_table_1_are_those_of_the_paper(output_stride):
    (sheet,) = sheets(f"table1:os{output_stride}")
    rates = [{conv.rate for conv in units(sheet, block)} for block in range(1, 8)]
    assert rates == [{rate} for rate in RATES[output_stride]]
    last = sheet.convs[-1]
    side = SIDE_AT_513[output_stride]
    assert -(-dilations.feature_size(last, 513) // last.stride) == side
    assert not sheet.violations


@pytest.mark.parametrize("output_stride", ASPP_RATES)
def test_rates_of_aspp_double_at_8_and_halve_at_32(output_stride):
    config = tables.config_of("table5/mg124_pooling")
    sheet = dilations.make_sheet("", config, output_stride=output_stride, image_size=513)
    aspp = [conv for conv in sheet.convs if conv.name.startswith("aspp")]
    assert [conv.rate for conv in aspp] == ASPP_RATES[output_stride]
    unit_rates = [conv.rate // RATES[output_stride][3] for conv in units(sheet, 4)]
    assert unit_rates == [1, 2, 4] and not sheet.violations


@pytest.mark.parametrize("scale", base.SCALES)
def test_no_row_breaks_the_rule(scale):
    for sheet in sheets(*tables.TABLES, scale=scale):
        assert len(sheet.convs) >= 6 and not sheet.violations, sheet


@pytest.mark.parametrize("backbone", ["resnet_tiny", "resnet_tiny_beta"])
@pytest.mark.parametrize("output_stride", [8, 32])
def test_the_sheet_is_of_the_layers_of_the_model(backbone, output_stride):
    config = tables.config_of("table6/os8")
    config.model.backbone = backbone
    sheet = dilations.make_sheet("", config, output_stride=output_stride, image_size=513)
    with keras.StatelessScope():
        built = deeplabv3(**{**config.model, "output_stride": output_stride})
    layers = [layer for layer in built.layers if isinstance(layer, keras.layers.Conv2D)]
    convs = {
        layer.name.removesuffix("_conv"): (layer.strides[0], layer.dilation_rate[0])
        for layer in layers
        if layer.kernel_size == (3, 3)
    }
    ours = {
        conv.name + ("_2" if conv.name.startswith("block") else ""): (conv.stride, conv.rate)
        for conv in sheet.convs
    }
    assert ours == convs


@pytest.mark.parametrize("size, rate, stride", [(9, 1, 1), (9, 2, 2), (6, 4, 1), (5, 5, 1)])
def test_taps_are_counted_one_by_one(size, rate, stride):
    inside, taps = 0, 0
    for y, x in itertools.product(range(0, size, stride), repeat=2):
        for dy, dx in itertools.product((-rate, 0, rate), repeat=2):
            inside += 0 <= y + dy < size and 0 <= x + dx < size
            taps += 1
    assert dilations.share_inside(size, rate, stride) == pytest.approx(inside / taps)


def test_a_large_rate_leaves_a_1x1_conv():
    """Fig. 4, on 65 x 65 features."""
    shares = [dilations.share_inside(65, rate) for rate in range(1, 70)]
    assert all(np.diff(shares[:65]) < 0)
    assert shares[64:] == pytest.approx([1 / 9] * 5)
    assert dilations.share_of_positions(65, 65, 1) == 1
    assert dilations.share_of_positions(65, 1, 9) == pytest.approx((63 / 65) ** 2)
    assert dilations.share_of_positions(65, 33, 9) == 0


def run(monkeypatch, capsys, *arguments):
    """Runs the program here -> its exit code or message, and what it printed."""
    monkeypatch.setattr(sys, "argv", ["dilations", *map(str, arguments)])
    code = 0
    try:
        dilations.main()
    except SystemExit as stopped:
        code = stopped.code
    return code, capsys.readouterr().out


def test_the_program_prints_a_sheet_and_draws_it(monkeypatch, capsys, tmp_path):
    file = tmp_path / "rates.png"
    code, out = run(monkeypatch, capsys, "table3:mg121_block7", f"--output={file}")
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if "_unit" in line}
    assert len(rows) == 3 + 4 + 23 + 4 * 3
    # Rate 32 = 16 x 2 on 33 x 33 features: a corner's other tap alone; (35 / 99) ** 2.
    assert rows["block7_unit2"] == ["1", "32", "4163", "33", "x", "33", "12.5"]
    with Image.open(file) as picture:
        assert picture.width > 500


def test_the_plot_names_its_rows_and_has_two_panels():
    figure = dilations.plot(list(sheets("table5/mg124_pooling")))
    assert "table5/mg124_pooling, resnet101" in figure.get_suptitle()
    shares, positions = figure.axes
    (points,) = [
        line for line in shares.lines if line.get_marker() == "o" and 18 in line.get_xdata()
    ]
    assert {6, 12, 18} <= set(points.get_xdata())
    assert "33 x 33" in positions.get_title() and len(positions.lines) == 3
    nine, four, one = (line.get_ydata() for line in positions.lines)
    assert all(np.diff(nine) <= 0) and all(np.diff(one) >= 0) and four.max() > four[0]
    many = dilations.plot(list(sheets("table1"))).get_suptitle()
    assert many.count("table1/") == 3 and many.endswith("and 3 more")


def test_the_evaluation_has_a_sheet_of_its_own(monkeypatch, capsys):
    code, out = run(monkeypatch, capsys, "table6:os8", "--image_size=769")
    assert code == 0
    assert "output_stride 16, 769 pixels" in out and "output_stride 8, 769 pixels" in out
    assert out.count("49 x 49") and out.count("97 x 97")


def late(num_units, **arguments):
    """A plan that forgets to double the rates after block4."""
    plan = late.plan(num_units, **arguments)
    return plan[:4] + [plan[3]] * (len(plan) - 4)


def test_a_plan_that_breaks_the_rule_fails_and_names_the_convs(monkeypatch, capsys):
    late.plan = model.resnet.atrous_plan
    monkeypatch.setattr(model.resnet, "atrous_plan", late)
    code, _ = run(monkeypatch, capsys, "table3:mg121_block6")
    assert "rates break the rule" in code
    assert "block5_unit2 has rate 4 at stride 16; Sec. 3 requires 8 at 16" in code
    assert "block6_unit1 has rate 2 at stride 16; Sec. 3 requires 8 at 16" in code
    assert "block4" not in code


def test_aspp_rates_that_do_not_double_fail(monkeypatch, capsys):
    monkeypatch.setattr(dilations, "rates_at", lambda output_stride, rates: list(rates))
    code, _ = run(monkeypatch, capsys, "table6:os8")
    assert "aspp_atrous3 has rate 18 at stride 8; Sec. 3 requires 36 at 8" in code
    assert "output_stride 16" not in code


def test_a_stride_at_the_wrong_place_fails():
    config = tables.config_of("table5/mg111").model
    arguments = dict(output_stride=16, multi_grid=(1, 1, 1), atrous_rates=config.atrous_rates)
    right = Window("block3_unit1", 3, 1, 1, 16, 131)
    assert not dilations.find_violations([right], **arguments)
    (said,) = dilations.find_violations([right._replace(input_stride=8)], **arguments)
    assert "block3_unit1 has rate 1 at stride 8" in said


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["table99"], "No table 'table99'"),
        (["table9:mg"], "No row 'mg' in table9"),
        (["table3", "--scale=voc_mobile"], "None of these rows is available at the scale voc_m"),
    ],
)
def test_mistakes_are_named(monkeypatch, capsys, arguments, said):
    code, _ = run(monkeypatch, capsys, *arguments)
    assert code.startswith("error: ") and said in code


@pytest.mark.parametrize("output_stride, rates", [(16, {1, 2}), (8, {1, 2, 4}), (32, {1})])
def test_units_of_mobilenet_follow_the_rule_too(output_stride, rates):
    config = tables.config_of("table6/os16", "voc_mobile")
    sheet = dilations.make_sheet("", config, output_stride=output_stride, image_size=513)
    units = [conv for conv in sheet.convs if conv.name.startswith("unit")]
    assert len(units) == 17 and {conv.rate for conv in units} == rates and not sheet.violations
    wrong = [conv._replace(rate=3) if conv.name == "unit14" else conv for conv in sheet.convs]
    how = {"output_stride": output_stride, "multi_grid": (1, 1, 1), "atrous_rates": ()}
    (line,) = dilations.find_violations(wrong, **how)
    assert line.startswith("unit14 has rate 3")
