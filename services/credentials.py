"""The password that is made up on first start and kept in `.env`."""

import re
import secrets

from data_exchange_center.settings import ENV_FILE, Settings


def elasticsearch_password(settings: Settings) -> str:
    """The password of the settings; where there is none, one is made up and kept, readable by its owner alone."""
    password = settings.es_password.get_secret_value()
    if not password:
        password = secrets.token_urlsafe(24)
        old = ENV_FILE.read_text("utf-8") if ENV_FILE.exists() else ""
        kept = [line for line in old.splitlines() if not re.match(r"\s*ES_PASSWORD\s*=", line)]
        ENV_FILE.touch(mode=0o600)
        ENV_FILE.chmod(0o600)
        ENV_FILE.write_text("\n".join([*kept, f"ES_PASSWORD={password}"]) + "\n", "utf-8")
    return password
