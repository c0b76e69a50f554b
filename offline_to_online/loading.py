"""What the loaders have in common: an error that names the first difference between what was written and what is read."""

LOADER_TIMEOUT = 30.0  # seconds: a loader may wait where a request may not


class LoadError(Exception):
    """A store does not hold what was loaded into it."""

    is_expected = True
