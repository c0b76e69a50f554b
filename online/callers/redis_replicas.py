"""Replicas of a Redis Cluster's nodes: how they are read from, and how a write is known to have reached one."""

import logging
from typing import Any

import redis

from online.callers.types import NodeUnavailable

logger = logging.getLogger(__name__)

ACKNOWLEDGED = "recsys:user_acknowledged:{{{}}}"  # written last and for a minute: a replica that has it has all before
ACKNOWLEDGED_SECONDS = 60


def connect_to_read(connection: redis.Connection) -> None:
    """Lets a replica answer, which otherwise sends everyone to its master."""
    connection.on_connect()
    connection.send_command("READONLY")
    connection.read_response()


def acknowledge(userid: int, seconds: float, client: redis.Redis) -> None:
    """Returns when a replica has all that the node has of the user, or the node has no replica in step.

    Raises:
        NodeUnavailable: a replica in step did not take it in time.
    """
    with client.pipeline(transaction=False) as pipe:
        # WAIT is about what its own connection wrote, and the transaction had another one.
        pipe.set(ACKNOWLEDGED.format(userid), 1, ex=ACKNOWLEDGED_SECONDS)
        pipe.execute_command("WAIT", 1, int(seconds * 1000))
        _, replicas = pipe.execute()
    if replicas:
        return
    state: dict[str, Any] = client.info("replication")  # type: ignore[assignment]
    if state["role"] != "master" or any(
        value["state"] == "online" for name, value in state.items() if name.startswith("slave") and name[5:].isdecimal()
    ):
        raise NodeUnavailable("redis", "its replica has not taken the event in time")
    logger.warning("the events of user %s are on one node alone: its replica is away", userid)
