"""Ids as people have them, and the integers that stand for them everywhere inside.

An id that is a positive integer stands for itself. A text, a UUID say, is carried as 63 bits of its BLAKE2 digest: the
same integer in every run, whatever other ids the data hold, so that a user whom the data do not know yet has one, too,
and no request needs a table of all users. Only what people read and write has the text.

Standard library only: the server imports this file.
"""

import hashlib

ExternalId = int | str

LONGEST_ID = 256  # characters of a text id


def internal_id(external: ExternalId) -> int:
    """The integer that stands for an id in artefacts, stores and models: 1 to 2^63 - 1 for a text."""
    if isinstance(external, int):
        return external
    return int.from_bytes(hashlib.blake2b(external.encode(), digest_size=8).digest()) >> 1 or 1
