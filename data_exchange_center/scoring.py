"""The blend that the choice of its weight (offline) and the server (online) must compute alike."""

from data_exchange_center.arrays import FloatArray


def final_scores(logits: FloatArray, recall: FloatArray, weight: float) -> FloatArray:
    """DeepFM's logit × weight + the recall score; shapes broadcast."""
    return logits * weight + recall
