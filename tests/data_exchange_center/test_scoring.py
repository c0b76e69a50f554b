"""Establishes the final score, which the choice of the blend's weight and the server share."""

import numpy as np

from data_exchange_center.scoring import final_scores


def test_the_final_score_is_the_declared_one() -> None:
    assert final_scores(np.array([2.0, -1.0]), np.array([0.5, 0.5]), 0.1).tolist() == [0.7, 0.4]


def test_weights_broadcast_over_users_and_candidates() -> None:
    logits, recall = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.5, 0.25], [0.0, -1.0]])
    assert final_scores(logits, recall, 2.0).tolist() == [[2.5, 4.25], [6.0, 7.0]]
