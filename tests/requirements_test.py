"""The lists of what is to be installed do not drift apart."""

from tests.conftest import ROOT


def packages(name):
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_on_a_tpu_all_but_tensorflow_is_the_same():
    anywhere, tpu = packages("requirements.txt"), packages("requirements-tpu.txt")
    assert anywhere[0].startswith("tensorflow>=2.19,") and tpu[0] == "tensorflow-tpu==2.19.1"
    assert tpu[1].startswith("tensorflow-metadata<1.18")  # Which it needs on top of the rest.
    assert anywhere[1:] == tpu[2:]
