"""One load: what the stores hold together, told by the digest of the artefacts that they were filled from.

Each store carries the digest, and the server compares it with its own: so a store that was emptied, or filled from
other artefacts, is no store that knows nothing, and an answer comes from one load.
"""

import hashlib

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.digests import file_digest

LOADED: Artefacts = (
    catalogue.DATASET,
    catalogue.USERS,
    catalogue.ITEMS,
    catalogue.POPULAR_ITEMS,
    catalogue.USER_TERM,
    catalogue.USER_FILTER,
    catalogue.SEQUENCE_USER_VECTORS,
    catalogue.SEQUENCE_ITEM_VECTORS,
    catalogue.SIMILAR_ITEMS,
    catalogue.TOWER_MODEL,
    catalogue.RANKER_MODEL,
)


def load_digest() -> str:
    """The digest of what is loaded, in 16 hexadecimal digits.

    Raises:
        ArtefactError: an artefact is missing; the message names the stage to run.
    """
    digest = hashlib.sha256()
    for artefact in LOADED:
        digest.update(bytes.fromhex(file_digest(artefact.existing_file())))
    return digest.hexdigest()[:16]
