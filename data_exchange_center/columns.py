"""Column names, written once: a misspelt column is then an ImportError, not an empty result."""

USERID = "userid"
ITEMID = "itemid"
RATING = "rating"
TIMESTAMP = "timestamp"
LABEL = "label"  # 1 when rating > POSITIVE_ABOVE, else 0
SPLIT = "split"  # see Split
USER_INDEX = "user_index"  # position of the userid in the vocabulary of the offline rows, 0 = unknown
ITEM_INDEX = "item_index"  # the same for the itemid
GENDER = "gender"
AGE = "age"
OCCUPATION = "occupation"
TITLE = "title"
GENRES = "genres"
TERMS = "terms"
ITEMS = "items"
POSITIVES = "positives"
EVENT_TIMESTAMP = "event_timestamp"

LOWEST_RATING, HIGHEST_RATING = 0.5, 5.0
POSITIVE_ABOVE = 3


class Split:
    """Values of the column `split` of the offline impressions.

    `train` and `valid` together are the training rows (the first 80 % of each user's offline rows);
    `valid` is their last 10 %, on which every choice is made; `test` is the last 20 %, read once.
    """

    TRAIN = 0
    VALID = 1
    TEST = 2
