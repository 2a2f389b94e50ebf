"""What a person sees beside progress."""

from experiments.terminal import table


def test_tables_are_aligned():
    assert table([["class", "IoU"], ["a", "1.00"], ["long one", "55.00"]]).splitlines() == [
        "class       IoU",
        "a          1.00",
        "long one  55.00",
    ]
