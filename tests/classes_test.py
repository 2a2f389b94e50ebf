"""Facts that are stated are the known ones."""

import pytest

from data.classes import VOC_CLASS_NAMES, voc_palette
from data.shapes import CLASS_NAMES


def test_palette_has_the_colors_of_the_development_kit():
    palette = voc_palette()
    known = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    for class_id, color in {**known, 255: (224, 224, 192)}.items():
        assert tuple(palette[class_id]) == color
    assert len({tuple(color) for color in palette}) == 256


@pytest.mark.parametrize("names", [VOC_CLASS_NAMES, CLASS_NAMES])
def test_there_are_21_classes_and_the_first_is_background(names):
    assert len(set(names)) == 21
    assert names[0] == "background"
