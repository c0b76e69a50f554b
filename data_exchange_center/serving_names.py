"""The names under which the loaders write into the stores and the server reads from them.

Standard library only: the Feast server's container imports this file.
"""

from dataclasses import dataclass

from data_exchange_center.features import Entity, FeatureSet

# Redis, database 0. Values are JSON, so that `redis-cli get recsys:user_term:{1}` reads as what it is. Every key begins
# with the project's name: whatever else the database holds is neither read nor deleted. Of a key with braces Redis
# Cluster looks at what they hold alone, so that all keys of a user are on one node, and change in one transaction.
REDIS_DATABASE = 0
REDIS_TERM = "recsys:user_term:{{{}}}"
REDIS_VECTOR = "recsys:user_vector:{{{}}}"
REDIS_FILTER = "recsys:user_filter:{{{}}}"
# The last TOWER_IMPRESSIONS, oldest first: [[itemid, rating, timestamp], ...].
REDIS_RECENT = "recsys:user_recent:{{{}}}"
REDIS_EVENTS = "recsys:user_events:{{{}}}"  # a list of the events accepted since the last load, by arrival
# In a cluster alone: the digest of the load that the user is of. On one node REDIS_LOAD tells, which is there as well.
REDIS_USER_LOAD = "recsys:user_load:{{{}}}"
REDIS_USER_KEYS = (REDIS_TERM, REDIS_VECTOR, REDIS_FILTER, REDIS_RECENT, REDIS_EVENTS, REDIS_USER_LOAD)
REDIS_LOAD = "recsys:load"  # the digest of the load that the users are of; absent while they are being replaced
REDIS_FEAST = "recsys:feast_features"  # the hash of the features, and so of the ids, that Feast's rows are of
# The versions of the ranking model that were promoted, oldest first, as a JSON list of numbers: the last one is served.
REDIS_PROMOTED = "recsys:promoted_versions"
REDIS_UNPUSHED = "recsys:unpushed_users"  # a set: users whose events have not reached Feast or their vector yet
# Streams; a load leaves them as they are. Each entry is JSON in one field, as log_entries.py declares it.
REDIS_IMPRESSIONS = "recsys:impressions"  # the lists that were shown
REDIS_EVENT_LOG = "recsys:event_log"  # the events that were accepted, in the order in which they were counted
LOG_FIELD = "entry"
# How many entries a stream has ever got, by its key; on the stream's own node, since the braces hold all of that key.
REDIS_ADDED = "recsys:added:{{{}}}"


def redis_prefix(key: str) -> str:
    """What every key of this kind begins with."""
    return key.partition("{")[0]


def redis_userid(key: str, found: bytes) -> str:
    """What stands in a key of this kind for the user's id; empty where the key is of another form."""
    before, after = key.format("\n").split("\n")
    text = found.decode("utf-8", "replace")
    is_of_form = text.startswith(before) and text.endswith(after)
    return text[len(before) : len(text) - len(after)] if is_of_form else ""


# Elasticsearch. The server searches the alias; the loader points it at a new index once that is complete.
# Its name begins with the digest of the load, by which a search tells whose items it finds.
ES_ALIAS = "ml_item"
ES_INDEX_OF_LOAD = "ml_item-{}-"
ES_ITEMID = "itemid"
ES_GENRES = "genres"
ES_VECTOR = "vector"
ES_POPULARITY = "popularity"
ES_YEAR = "year"  # see item_years.py; an item without one has no such field
ES_SIMILAR = "similar"  # stored, not indexed: the item's neighbours and their scores, best first
ES_CELLS = "cells"  # of an item, in an index that is searched approximately
ES_UNSEARCHED_VECTOR = "unsearched_vector"  # there it holds the vector of an item that is in no cell
ES_CENTROIDS = "centroids"  # in the mapping's `_meta`: only an index that is searched approximately has it
TERM_QUERY = "term"  # names of the two queries: `matched_queries` of a hit lists those that found it
VECTOR_QUERY = "vector"

# Feast. Its online store is database 1 of the same Redis.
FEAST_REDIS_DATABASE = 1


@dataclass(frozen=True)
class FeastView:
    """Features of one entity that are written together; every feature of an entity is in exactly one view."""

    name: str
    entity: Entity
    of_history: bool = False  # whether it holds the user's history, which live events change, or all else

    def columns(self, features: FeatureSet) -> tuple[str, ...]:
        """Its features."""
        own = features.entity_columns(self.entity)
        return tuple(name for name in own if (name in features.history_counts) == self.of_history)


# What an event changes is a view of its own, so that a push replaces it without knowing the rest of the user.
USER_PROFILE = FeastView("user_profile", "user")
USER_HISTORY = FeastView("user_history", "user", of_history=True)
ITEM_FEATURES = FeastView("item_features", "item")
FEAST_VIEWS = (USER_PROFILE, USER_HISTORY, ITEM_FEATURES)
CATEGORIES_FILE = "categories.json"  # in FEAST_DATA: what the declaration of the features follows
FEAST_SERVICES = {"user": "ml_user", "item": "ml_item"}
FEAST_HISTORY_PUSH = "user_history_push"  # the push source of USER_HISTORY
