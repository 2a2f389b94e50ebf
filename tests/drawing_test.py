"""What is drawn onto images: outlines that show anywhere, panels that are named, legends."""

import numpy as np
import pytest

from data.classes import IGNORE_LABEL
from data.drawing import (
    ERROR_COLOR,
    GAP,
    LINE_HEIGHT,
    comparison_panels,
    draw_legend,
    draw_outlines,
    join_panels,
)
from data.pictures import MAX_THUMBNAIL_SIZE, full_palette

PALETTE = full_palette([[0, 0, 0], [200, 0, 0], [0, 0, 200]])


def has(image, color):
    return (np.asarray(image) == color).all(-1).any()


@pytest.mark.parametrize("background", [0, 128, 255])
@pytest.mark.parametrize("width", [1, 3])
def test_an_outline_shows_on_any_background(background, width):
    image = np.full((30, 30, 3), background, np.uint8)
    class_ids = np.zeros((30, 30), np.uint8)
    class_ids[10:20, 10:20] = 7
    outlined = draw_outlines(image, class_ids, width)
    assert (outlined[10 : 10 + width, 10:20] == 255).all()
    assert (outlined[10 - width : 10, 10:20] == 0).all()
    changed = (outlined != image).any(-1)
    assert changed[10 - width : 20 + width, 10 - width : 20 + width].sum() == changed.sum() > 0
    np.testing.assert_array_equal(outlined[10 + width : 20 - width, 15], image[:10, 0][2 * width :])
    assert (image == background).all()


def test_two_objects_side_by_side_are_told_apart_and_a_border_is_left_as_it_is():
    class_ids = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 255, 255, 0, 0, 0]] * 5, np.uint8)
    outlined = draw_outlines(np.full((5, 13, 3), 9, np.uint8), class_ids)
    assert outlined[2, :, 0].tolist() == [9, 9, 9, 0, 255, 9, 9, 0, 9, 9, 0, 9, 9]


@pytest.mark.parametrize("size, shown", [((50, 40), (300, 240)), ((2000, 3000), (320, 480))])
def test_panels_show_label_prediction_and_errors_at_the_size_of_a_page(size, shown):
    image = np.full((*size, 3), 100, np.uint8)
    label, prediction = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    half = size[0] // 2
    label[:half], prediction[half:] = 1, 2
    label[:, : size[1] // 10] = IGNORE_LABEL
    panels = comparison_panels(image, label, prediction, PALETTE)
    assert list(panels) == ["image", "label", "prediction", "errors"]
    for panel in panels.values():
        assert panel.shape == (*shown, 3) and panel.dtype == np.uint8
        assert panel.shape[1] <= MAX_THUMBNAIL_SIZE[0] and panel.shape[0] <= MAX_THUMBNAIL_SIZE[1]
    top, bottom, middle = shown[0] // 4, 3 * shown[0] // 4, shown[1] // 2
    assert (panels["image"] == 100).all()
    assert panels["label"][[top, bottom], middle].tolist() == [[200, 0, 0], [0, 0, 0]]
    assert panels["prediction"][[top, bottom], middle].tolist() == [[0, 0, 0], [0, 0, 200]]
    assert (panels["errors"][:, middle] == ERROR_COLOR).all()  # All of it is wrong,
    assert (panels["errors"][:, 0] == PALETTE[IGNORE_LABEL]).all()  # or not scored.
    right = comparison_panels(image, label, np.where(label == 255, 0, label), PALETTE)["errors"]
    assert (right[:, middle] == 50).all()


def test_a_legend_is_never_empty_and_takes_more_lines_where_it_must():
    colors = {f"class {i}": (10 * i, 0, 99) for i in range(1, 9)}
    legend = draw_legend(list(colors.items()), 300)
    assert legend.width == 300 and legend.height % LINE_HEIGHT == 0 < legend.height - LINE_HEIGHT
    assert all(has(legend, color) for color in colors.values())
    large = draw_legend(list(colors.items()), 3 * 300, 3)
    assert large.width == 900 and large.height == 3 * legend.height
    for entries in ([], [("text alone", None)]):
        assert draw_legend(entries, 150).size == (150, LINE_HEIGHT)
    assert (np.asarray(draw_legend([("text alone", None)], 150)) < 100).any()


@pytest.mark.parametrize("width", [5, 200])
def test_each_panel_stands_below_its_title(width):
    panels = {"one": np.full((40, width, 3), 50, np.uint8), "two": np.full((40, width, 3), 60)}
    panels["two"] = panels["two"].astype(np.uint8)
    sheet = join_panels(panels, [("cat", (200, 0, 0))])
    second = sheet.shape[1] - int((sheet[LINE_HEIGHT] == 60).all(-1)[::-1].argmax()) - width
    assert second >= width + GAP
    for left, value in ((0, 50), (second, 60)):
        assert (sheet[LINE_HEIGHT : LINE_HEIGHT + 40, left : left + width] == value).all()
        assert (sheet[:LINE_HEIGHT, left : left + 30] < 100).any()
    assert has(sheet[LINE_HEIGHT + 40 :], (200, 0, 0))
