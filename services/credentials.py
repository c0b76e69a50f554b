"""The passwords that are made up on first start and kept in `.env`."""

import re
import secrets

from pydantic import SecretStr

from data_exchange_center.settings import ENV_FILE, Settings

PASSWORDS = ("es_password", "redis_password")
SPARK_SECRET = ("spark_secret",)


def passwords(settings: Settings, names: tuple[str, ...] = PASSWORDS) -> dict[str, str]:
    """The passwords of the settings by the names of the settings, empty where there is none."""
    return {name: getattr(settings, name).get_secret_value() for name in names}


def with_passwords(settings: Settings, names: tuple[str, ...] = PASSWORDS) -> Settings:
    """The settings with these passwords; those that are missing are made up and kept, readable by their owner alone."""
    made = {name: secrets.token_urlsafe(24) for name, password in passwords(settings, names).items() if not password}
    if made:
        lines_of = "|".join(name.upper() for name in made)
        old = ENV_FILE.read_text("utf-8") if ENV_FILE.exists() else ""
        kept = [line for line in old.splitlines() if not re.match(rf"\s*({lines_of})\s*=", line)]
        ENV_FILE.touch(mode=0o600)
        ENV_FILE.chmod(0o600)
        lines = [*kept, *(f"{name.upper()}={password}" for name, password in made.items())]
        ENV_FILE.write_text("\n".join(lines) + "\n", "utf-8")
    return settings.model_copy(update={name: SecretStr(password) for name, password in made.items()})
