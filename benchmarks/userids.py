"""The users of the data set by the ids that requests name them by."""

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.external_ids import ExternalId


def external_userids() -> dict[int, ExternalId]:
    """Each user's id as it came, by the id inside; empty where both are the same."""
    if Column.USERID not in catalogue.DATASET.load().text_ids:
        return {}
    users = catalogue.USERS.load([Column.USERID, Column.EXTERNAL_USERID])
    return dict(zip(*(column.to_pylist() for column in users.columns), strict=True))


def served_userids() -> list[ExternalId]:
    """The users with offline rows, by their ids as they came."""
    external, users = external_userids(), catalogue.USER_FILTER.load([Column.USERID])[Column.USERID].to_pylist()
    return [external.get(user, user) for user in users]
