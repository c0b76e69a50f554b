"""Bounds that offline and online must share. Standard library only."""

LARGEST_ID = 2**53 - 1  # the largest integer that all JSON readers agree on
RECALL_SIZE = 200  # candidates that a request hands to the ranking model
VECTOR_RECALL_SIZE = 190  # of which at most so many come from the vector where a user has terms
TRITON_MAX_BATCH = 256
TOWER_IMPRESSIONS = 100  # the last impressions that the user tower looks at; Redis keeps as many of each user
RANKER_IMPRESSIONS = 20  # the last ones that the ranking model looks at
