"""The names under which the stores and the model are written by the loaders and read by the server."""

# Redis, database 0. Values are JSON, so that `redis-cli get user_term:1` reads as what it is.
REDIS_DATABASE = 0
REDIS_TERM = "user_term:{}"
REDIS_VECTOR = "user_vector:{}"
REDIS_FILTER = "user_filter:{}"
REDIS_RECENT = "user_recent:{}"  # the last WINDOW impressions, oldest first: [[itemid, rating, timestamp], ...]
REDIS_EVENTS = "user_events:{}"  # a list of the events accepted since the last load, by arrival
REDIS_PREFIXES = tuple(key.format("") for key in (REDIS_TERM, REDIS_VECTOR, REDIS_FILTER, REDIS_RECENT, REDIS_EVENTS))
REDIS_UNPUSHED = "unpushed_users"  # a set: users whose events are not in Feast yet

LARGEST_ID = 2**53 - 1  # the largest integer that JSON readers agree on

# Elasticsearch. The alias is what the server searches; the loader switches it to a complete new index.
ES_ALIAS = "ml_item"
ES_ITEMID = "itemid"
ES_GENRES = "genres"
ES_VECTOR = "vector"
ES_POPULARITY = "popularity"
ES_EXACT_UP_TO = 1_000_000  # items; the loader builds a graph of vectors only for larger catalogues
TERM_QUERY = "term"  # names of the two queries: matched_queries says which recall found a hit
VECTOR_QUERY = "vector"

# Feast. Its online store is database 1 of the same Redis.
FEAST_PROJECT = "recsys_pipeline"
FEAST_REDIS_DATABASE = 1
FEAST_VIEWS = {"user": "user_features", "item": "item_features"}
FEAST_SERVICES = {"user": "ml_user", "item": "ml_item"}
FEAST_USER_PUSH = "ml_user_push"

# Triton.
TRITON_MODEL = "ml_rec"
TRITON_SPARSE = "sparse_features"  # INT64 [batch, 23]
TRITON_DENSE = "dense_features"  # FP32 [batch, 36]
TRITON_OUTPUT = "logit"  # FP32 [batch, 1]
TRITON_MAX_BATCH = 256
