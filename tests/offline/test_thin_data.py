"""Establishes that data on which nothing can be fitted or measured are refused with the rule and the counts."""

import pyarrow as pa
import pytest

from data_exchange_center.columns import Split
from offline.thin_data import ThinDataError, check_enough


def impressions(**labels: list[int]) -> pa.Table:
    """The labels of each split's rows."""
    rows = [(getattr(Split, name.upper()), label) for name, some in labels.items() for label in some]
    split, label = zip(*rows, strict=True) if rows else ((), ())
    return pa.table({"split": pa.array(split, pa.uint8()), "label": pa.array(label, pa.uint8())})


def test_one_row_of_each_kind_is_enough() -> None:
    check_enough(impressions(train=[1, 0], test=[0, 1]))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({}, "train 0 liked and 0 not, valid 0 liked and 0 not, test 0 liked and 0 not"),
        ({"train": [1, 1], "valid": [1], "test": [1, 0]}, "train 2 liked and 0 not, valid 1 liked and 0 not"),
        ({"train": [1, 0], "test": [1]}, "test 1 liked and 0 not"),
        ({"train": [1, 0]}, "test 0 liked and 0 not"),
        ({"train": [0, 0], "test": [1, 0]}, "train 0 liked and 2 not"),
    ],
)
def test_too_little_is_refused_with_rule_and_counts(labels: dict[str, list[int]], told: str) -> None:
    with pytest.raises(ThinDataError, match="must each hold ratings above 3") as refused:
        check_enough(impressions(**labels))
    assert told in str(refused.value)
