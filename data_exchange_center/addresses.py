"""Lists of `host:port` in settings: where the nodes of a cluster listen."""

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

NODE = re.compile(r"[\w.-]+:(\d{1,5})", re.ASCII)
LARGEST_PORT = 65_535


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """As in a setting: `host:port`."""
        return f"{self.host}:{self.port}"


def addresses(text: str) -> tuple[Address, ...]:
    """The addresses in a setting, in their order."""
    parts = (node.strip().rsplit(":", 1) for node in text.split(","))
    return tuple(Address(host, int(port)) for host, port in parts)


def _checked(text: str) -> str:
    """Refuses what is no list of `host:port`."""
    for node in text.split(","):
        found = NODE.fullmatch(node.strip())
        if not found or not 1 <= int(found[1]) <= LARGEST_PORT:
            raise ValueError("must be `host:port`, several of them with commas between: 127.0.0.1:7001,127.0.0.1:7002")
    return text


Nodes = Annotated[str, AfterValidator(_checked)]
