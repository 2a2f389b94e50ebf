"""What is wrong with a config is said before anything is built."""

import types

import pytest

import train
from tests.train_test import small_config


def devices(number):
    return types.SimpleNamespace(num_replicas_in_sync=number, cluster_resolver=None)


def test_a_batch_too_small_for_batch_norm_is_warned_of(capsys):
    train.check(small_config(), devices(1))
    assert "Table 9" in capsys.readouterr().out
    train.check(small_config(**{"freeze_batch_norm": True, "init_from.path": "x"}), devices(1))
    train.check(small_config(**{"train_data.batch_size": 8}), devices(1))
    assert capsys.readouterr().out == ""


def test_a_model_of_one_class_has_nothing_to_learn():
    with pytest.raises(ValueError, match="num_classes is 1; .*nothing to learn"):
        train.check(small_config(**{"model.num_classes": 1}), devices(1))


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(ValueError, match="batch of 4 cannot be shared equally by 3 devices"):
        train.check(small_config(), devices(3))


@pytest.mark.parametrize(
    "field, value", [("freeze_batch_norm", True), ("backbone_learning_rate_factor", 0.05)]
)
def test_what_is_for_trained_weights_is_refused_for_random_ones(field, value):
    with pytest.raises(ValueError, match="For random weights set --config.freeze_batch_norm=False"):
        train.check(small_config(**{field: value}), devices(1))
    train.check(small_config(**{field: value, "init_from.path": "x"}), devices(1))
    with pytest.raises(ValueError, match="factor is -1.0; it must be 0 or more"):
        train.check(small_config(backbone_learning_rate_factor=-1), devices(1))
