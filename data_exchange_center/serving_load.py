"""One load: what the stores hold together, told by the digest of the artefacts that they were filled from.

Each store carries the digest, and the server compares it with its own: so a store that was emptied, or filled from
other artefacts, is no store that knows nothing, and an answer comes from one load.

The ranking model's weights are no part of it: of one load several versions of that model can be served, and a new one
changes nothing in the stores. Each carries the digest of the load that it was loaded for, whose ids, features, vectors
and user tower it knows; see offline_to_online/ranking_versions.py.
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
