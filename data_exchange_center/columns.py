"""Column names, written once: a misspelt column is then an AttributeError, not an empty result.

Standard library only: the Feast server's container imports this file.
"""


class Column:
    """The columns of tables and artefacts; always used with the class's name in front."""

    USERID = "userid"
    ITEMID = "itemid"
    EXTERNAL_USERID = "external_userid"  # the id as it came, where it is text; see external_ids.py
    EXTERNAL_ITEMID = "external_itemid"
    RATING = "rating"
    TIMESTAMP = "timestamp"  # seconds since 1970
    IMPRESSION = "impression"  # key of an offline impression: its row number in the split's order
    LABEL = "label"  # 1 when the rating is a positive, else 0; see dataset.RatingScale
    SPLIT = "split"  # see Split
    USER_INDEX = "user_index"  # position of the userid in the vocabulary of the offline rows, 0 = unknown
    ITEM_INDEX = "item_index"  # the same for the itemid
    GENDER = "gender"
    AGE = "age"
    OCCUPATION = "occupation"
    TITLE = "title"
    GENRES = "genres"  # the item's categories that it may have several of
    TERMS = "terms"
    SEEN_ITEMS = "seen_items"
    POSITIVES = "positives"
    SIMILAR_ITEMS = "similar_items"
    SIMILAR_SCORES = "similar_scores"
    EVENT_TIMESTAMP = "event_timestamp"


class LogColumn:
    """The columns of what the server logged, beside those of Column."""

    MILLISECONDS = "entry_milliseconds"  # of the entry's id in the stream: Redis's clock
    NUMBER = "entry_number"  # among the entries of the same millisecond
    REQUEST_ID = "request_id"
    TIME = "time"  # milliseconds since 1970 by the server's clock
    POSITION = "position"  # in the list, from 1
    SCORE = "score"
    RECALL_SCORE = "recall_score"
    RECALLED_BY = "recalled_by"
    FEATURES = "features"  # digest of what the ranking model knew of user and item
    RECENT_ITEMS = "recent_items"  # the user's last impressions at that moment
    RECENT_RATINGS = "recent_ratings"
    MODEL_VERSION = "model_version"
    LOAD = "load"
    ARM = "arm"
    PROPENSITY = "propensity"
    TEAM = "team"  # of an interleaved list, the arm that picked the item
    SHADOW_VERSION = "shadow_version"  # of the ranking model that scored the list for the log alone
    SHADOW_SCORE = "shadow_score"
    SHADOW_POSITION = "shadow_position"  # in its order of all candidates, from 1; 0 for one that was none, or is pinned
    DEGRADED = "degraded"  # services joined by +
    FALLBACK = "fallback"
    NAMED = "named"  # 1 where an event names the list as what it answers
    LIST = "list"  # a number of the list
    ACTED = "acted"  # 1 where the user rated what was shown


class Split:
    """Values of the column `split` of the offline impressions.

    `train` and `valid` together are the training rows (the first 80 % of each user's offline rows);
    `valid` is their last 10 %, on which every choice is made; `test` is the last 20 %, read once. `online` marks a
    user's last rows while the rows are split; those are then in a table of their own.
    """

    TRAIN = 0
    VALID = 1
    TEST = 2
    ONLINE = 3
    ALL = (TRAIN, VALID, TEST, ONLINE)
