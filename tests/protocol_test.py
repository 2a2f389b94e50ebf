"""How a run is scored, as flags and file names say it."""

import pytest

from evaluation.protocol import parse_scales, result_name


def test_what_is_no_scale_is_refused_where_it_is_read():
    assert parse_scales(["1.5", "0.5"]) == (0.5, 1.5)
    for texts in (["0"], ["1", "-1"], ["0.3"], ["nan"], ["inf"]):
        with pytest.raises(ValueError, match="Scales must be multiples of 1/8"):
            parse_scales(texts)
    with pytest.raises(ValueError, match="--scales is empty"):
        parse_scales([])
    with pytest.raises(ValueError, match="--scales=half: could not convert"):
        parse_scales(["half"])


def test_files_are_named_after_what_differs_from_the_runs_own_inference():
    own = {"split": "val", "output_stride": 16, "scales": (1.0,), "flip": False}
    assert result_name(own, own) == "eval"
    assert result_name({**own, "output_stride": 8}, own) == "eval_val_os8"
    other = {"split": "test", "output_stride": 8, "scales": (0.5, 1.0), "flip": True}
    assert result_name(other, own) == "eval_test_os8_ms0.5_1_flip"
