"""What the loaders share: how long they wait for a store, and the error of a store that holds something else."""

LOADER_TIMEOUT = 30.0  # seconds: a loader may wait where a request may not


class LoadError(Exception):
    """A store does not hold what was loaded into it; the message names the first difference and the remedy."""

    is_expected = True
