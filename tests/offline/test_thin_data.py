"""Establishes that data on which nothing can be fitted or measured are refused with the rule and the counts."""

import numpy as np
import pytest

from offline.thin_data import ThinDataError, check_enough


def labels_of(**parts: list[int]) -> dict[str, np.ndarray]:
    """The labels of each split's rows."""
    return {name: np.array(parts.get(name, []), np.uint8) for name in ("train", "valid", "test")}


def test_one_row_of_each_kind_is_enough() -> None:
    check_enough(labels_of(train=[1, 0], test=[0, 1]))


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
        check_enough(labels_of(**labels))
    assert told in str(refused.value)
