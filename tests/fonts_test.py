"""Names of classes in any script: written in a font that has them, or by their ids."""

import numpy as np
import pytest

from data import fonts
from data.drawing import class_entries, draw_legend
from data.pictures import full_palette

NAMES = ["building, edifice", "дорога", "café", "\U000f0000"]  # The last one is in no font.


@pytest.mark.parametrize("text", NAMES[:3])
def test_a_font_has_every_character(text):
    font = fonts.find_font(text, 14)
    missing = font.getmask("\U000f0000")
    for character in text.replace(" ", ""):
        glyph = font.getmask(character)
        assert glyph.size != missing.size or bytes(glyph) != bytes(missing)


def test_a_name_without_a_font_is_its_id():
    palette = full_palette([[0, 0, 0], [200, 0, 0], [0, 0, 200], [0, 99, 0]])
    entries = class_entries(range(4), palette, NAMES)
    assert [name for name, _ in entries] == [*NAMES[:3], "class 3"]
    assert (np.asarray(draw_legend(entries, 600)) == (0, 99, 0)).all(-1).any()


def test_letters_that_join_need_raqm(monkeypatch):
    monkeypatch.setattr(fonts.features, "check", lambda name: False)
    fonts.find_font.cache_clear()
    assert fonts.find_font("طريق", 14) is None and fonts.find_font("дорога", 14)
    fonts.find_font.cache_clear()
