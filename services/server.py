"""What the stack knows of a server."""

from collections.abc import Callable
from dataclasses import dataclass

from data_exchange_center.settings import Settings
from services.processes import Port, Recorder


@dataclass(frozen=True)
class Server:
    """One server: where it listens, how it is started without Docker, and how it is known to be ready."""

    name: str
    ports: Callable[[Settings], list[Port]]
    start: Callable[[Settings, Recorder], None]
    is_ready: Callable[[Settings], bool]
