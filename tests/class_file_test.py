"""classes.json: what is written by hand is read, and what is wrong is named."""

import codecs
import json
import re

import numpy as np
import pytest

from data.class_file import map_to_class_ids, read_classes
from data.mask_classes import Mask
from tests.conftest import ROOT

BLACK = {"name": "background", "color": [0, 0, 0], "value": 0}
CAT = {"name": "cat", "color": [128, 0, 0], "value": 1}


def write(folder, *classes, **others):
    file = folder / "classes.json"
    file.write_text(json.dumps({"classes": list(classes), **others}))
    return file


def mask_of(kind, *values):
    palette = np.zeros((256, 3), np.uint8)
    palette[1] = 128, 0, 0
    return Mask(kind, np.array([values], np.int32), palette)


def test_values_of_a_list_are_one_class(tmp_path):
    classes = read_classes(write(tmp_path, BLACK, CAT | {"value": [1, 7]}, ignored=[255]))
    for kind in ("indices", "palette"):  # No kind is given, so both are read.
        ids = map_to_class_ids(mask_of(kind, 0, 1, 7, 255, 1), classes, tmp_path / "mask.png")
        assert ids.tolist() == [[0, 1, 1, 255, 1]] and ids.dtype == np.uint8
    colors = write(tmp_path, BLACK | {"value": "#000000"}, CAT | {"value": ["#800000", "#00FF00"]})
    mask = mask_of("colors", 0x800000, 0x00FF00, 0)
    ids = map_to_class_ids(mask, read_classes(colors), tmp_path / "mask.png")
    assert ids.tolist() == [[1, 1, 0]]


@pytest.mark.parametrize(
    "others, mask, said",
    [
        ({}, mask_of("colors", 0), "mask of colors, but .* of gray values or values of a palette"),
        ({"kind": "palette"}, mask_of("indices", 0), 'mask of gray values, but .*delete "kind"'),
        ({}, mask_of("indices", 0, 9), "holds 9, which .* does not list"),
        ({"palette": {"1": "#008000"}}, mask_of("palette", 1), "color #800000 for the value 1"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(tmp_path, others, mask, said):
    classes = read_classes(write(tmp_path, BLACK, CAT, **others))
    with pytest.raises(ValueError, match=f"mask.png .*{said}"):
        map_to_class_ids(mask, classes, tmp_path / "mask.png")


def test_the_example_of_the_documentation_is_read(tmp_path):
    example = re.search("```text\n({.*?)```", (ROOT / "docs" / "data.md").read_text(), re.DOTALL)
    (tmp_path / "classes.json").write_text(example[1])
    classes = read_classes(tmp_path / "classes.json")
    assert classes.names == ["background", "road"] and classes.ids == {0: 0, 1: 1, 2: 1, 255: 255}


def test_a_color_of_a_value_that_the_mask_lacks_does_not_matter(tmp_path):
    classes = read_classes(write(tmp_path, BLACK, CAT, palette={"0": "#000000", "1": "#008000"}))
    assert not map_to_class_ids(mask_of("palette", 0), classes, tmp_path / "mask.png").any()


def test_a_file_of_windows_is_read(tmp_path):
    file = write(tmp_path, BLACK, CAT | {"name": "道路"})
    text = file.read_text()
    file.write_bytes(codecs.BOM_UTF8 + text.encode())
    assert read_classes(file).names == ["background", "道路"]
    file.write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match="classes.json is not valid UTF-8. Save it as UTF-8"):
        read_classes(file)


@pytest.mark.parametrize(
    "classes, others, said",
    [
        ([BLACK], {}, "number of classes is 1; it must be 2 .*nothing to learn"),
        ([BLACK, CAT | {"value": "red"}], {}, "value of class 1 must be a number .* 'red'"),
        ([BLACK, CAT | {"value": True}], {}, "value of class 1 must be a number .* True"),
        ([BLACK, CAT | {"value": -1}], {}, "value of class 1 must be a number .* -1"),
        ([BLACK, CAT | {"value": [[1] * 999]}], {}, "value of class 1 must be a number"),
        ([BLACK, CAT | {"value": []}], {}, "class 1 has no value"),
        (
            [BLACK, CAT | {"value": "x" * 999}],
            {"kind": "colors"},
            "value of class 0 must be a color",
        ),
        ([BLACK, CAT | {"value": [1, 0]}], {}, "value 0 twice"),
        ([BLACK, CAT], {"ignored": [1]}, "value 1 twice"),
        ([BLACK, CAT | {"name": "background"}], {}, "name 'background' twice"),
        ([BLACK, CAT | {"name": "two\nlines"}], {}, "name of class 1 must be a line"),
        ([BLACK, CAT | {"name": " "}], {}, "name of class 1 must be a line"),
        ([BLACK, CAT | {"color": [1, 2]}], {}, "color of class 1 must be three numbers"),
        ([BLACK, {"name": "cat", "color": [0, 0, 0]}], {}, "class 1 has no field 'value'"),
        ([BLACK, "cat"], {}, "class 1 must be an object"),
        ([BLACK, CAT], {"kind": "shades"}, "unknown kind 'shades'"),
        ([BLACK, CAT], {"palette": {"1": [0, 0, 0]}}, "palette must be like"),
        ([BLACK, CAT], {"palette": []}, "'palette' of it must be an object"),
        ([BLACK, CAT], {"ignored": 255}, "'ignored' of it must be a list"),
    ],
)
def test_what_is_wrong_is_named_in_a_line(tmp_path, classes, others, said):
    file = write(tmp_path, *classes, **others)
    with pytest.raises(ValueError, match=f"classes.json is invalid: .*{said}") as told:
        read_classes(file)
    assert len(str(told.value)) < 350 + len(str(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "9" * 9999])
def test_what_is_not_json_is_named_without_all_of_it(tmp_path, text):
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(ValueError, match="classes.json is (invalid|not valid JSON)") as told:
        read_classes(tmp_path / "classes.json")
    assert len(str(told.value)) < 500 + len(str(tmp_path))
