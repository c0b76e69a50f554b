"""Establishes that data on which nothing can be fitted or measured are refused with the rule and the counts."""

import numpy as np
import pytest

from data_exchange_center.columns import Split
from data_exchange_center.dataset import MOVIELENS_SCALE, RatingScale
from offline.preprocess.splitting import split_rows
from offline.thin_data import ROWS_FOR_ALL_PARTS, ThinDataError, check_enough, lack


def labels_of(**parts: list[int]) -> dict[str, np.ndarray]:
    """The labels of each split's rows."""
    return {name: np.array(parts.get(name, []), np.uint8) for name in ("train", "valid", "test")}


def test_one_row_of_each_kind_is_enough() -> None:
    check_enough(labels_of(train=[1, 0], test=[0, 1]), MOVIELENS_SCALE, 10)


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
        check_enough(labels_of(**labels), MOVIELENS_SCALE, 10)
    assert told in str(refused.value)


def test_the_rule_is_that_of_the_data_set() -> None:
    sentence = lack(
        dict.fromkeys(("train", "valid", "test"), (0, 0)), RatingScale(lowest=0, highest=1, positive_above=0.5), 3
    )
    assert sentence and "ratings above 0.5 (liked)" in sentence and "any rating of 0.5 or less" in sentence
    assert "The last 3 ratings" in sentence and "users need 4 or more, and 15 to be in every part" in sentence


def test_so_many_rows_put_a_user_into_every_part() -> None:
    for rows, parts in ((ROWS_FOR_ALL_PARTS, 3), (ROWS_FOR_ALL_PARTS - 1, 2)):
        split = split_rows(np.ones(rows + 5, np.int64), 5)
        assert len(set(split[split != Split.ONLINE].tolist())) == parts
