"""SBD's labels are compared to VOC's, image by image."""

import pytest

from data.features import read_label
from data.sbd_agreement import compare_sbd_to_voc
from tests.conftest import save_label


def test_sbd_is_held_against_voc(vocdevkit):
    voc = vocdevkit / "VOC2012"
    label_file = voc / "SegmentationClassAug" / "2007_000001.png"
    label = read_label(label_file)
    label[5:10] = (label[5:10] + 1) % 21
    save_label(label_file, label)
    against = compare_sbd_to_voc(vocdevkit)
    assert against["images"] == 4
    rows = 1 - 5 / (label.shape[0] - 3)  # The first three are VOC's 255.
    assert against["least"][0] == ("2007_000001", pytest.approx(rows))
    assert [share for _, share in against["least"][1:]] == [1, 1, 1]
    assert rows < against["pixels_that_agree"] < 1
    save_label(label_file, label[:-1])
    with pytest.raises(ValueError, match="2007_000001.png and .* differ in size"):
        compare_sbd_to_voc(vocdevkit)
