"""Every host, port, folder and credential, from the environment or the git-ignored `.env`."""

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from data_exchange_center.serving_names import FEAST_REDIS_DATABASE

ROOT = Path(__file__).resolve().parent.parent
ENV_FILE = ROOT / ".env"
FEAST_REPOSITORY = ROOT / "data_exchange_center/online/feast"

# What DATASET may be; all but the first are releases of MovieLens, by their names at GroupLens.
Dataset = Literal[
    "generated", "ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "ml-latest"
]


def _plain(password: SecretStr) -> SecretStr:
    """Refuses what Redis's configuration or Feast's connection string would not take literally."""
    if not re.fullmatch(r"[\w-]*", password.get_secret_value(), re.ASCII):
        raise ValueError("may hold letters, digits, _ and - alone")
    return password


Port = Annotated[int, Field(ge=1, le=65_535)]


class Settings(BaseSettings):
    """One field a setting; the environment's variable is the field's name in capitals. See `.env.example`."""

    model_config = SettingsConfigDict(env_file=ENV_FILE, env_ignore_empty=True, extra="ignore")

    dataset: Dataset = "generated"
    data_dir: Path | None = None
    artefacts_dir: Path = Path("data_exchange_center")
    seed: int = 2024

    services: Literal["auto", "native", "docker"] = "auto"
    services_dir: Path = Path(".services")  # downloaded servers, shared by all stacks
    run_dir: Path = Path(".run")  # process ids, logs and data of one stack

    redis_host: str = "127.0.0.1"
    redis_port: Port = 6379
    redis_password: Annotated[SecretStr, AfterValidator(_plain)] = SecretStr("")
    es_host: str = "127.0.0.1"
    es_port: Port = 9200
    es_user: str = "elastic"
    es_password: SecretStr = SecretStr("")
    exact_search_up_to: Annotated[int, Field(ge=0)] = 30_000  # items; in more, the search by vector is approximate
    feast_host: str = "127.0.0.1"
    feast_port: Port = 6566
    triton_host: str = "127.0.0.1"
    triton_http_port: Port = 8000
    triton_grpc_port: Port = 8001
    triton_metrics_port: Port = 8002

    web_host: str = "127.0.0.1"
    web_port: Port = 5000
    web_workers: int = 2
    web_threads: int = 8
    events_token: SecretStr = SecretStr("")

    def folder(self, path: Path) -> Path:
        """A folder setting as an absolute path; a relative one counts from the repository's root, not from `.`."""
        return (ROOT / path.expanduser()).resolve()

    @property
    def artefacts(self) -> Path:
        """Root of all artefacts."""
        return self.folder(self.artefacts_dir)

    @property
    def raw_data(self) -> Path:
        """Folder of the raw files, in any layout that offline/preprocess/readers/ knows."""
        own = f"generated-{self.seed}" if self.dataset == "generated" else self.dataset
        return self.folder(self.data_dir or Path("data") / own)

    @property
    def dataset_name(self) -> str:
        """The name that every metric and report carries."""
        return self.raw_data.name if self.data_dir else self.dataset

    @property
    def es_url(self) -> str:
        """Elasticsearch's address."""
        return f"http://{self.es_host}:{self.es_port}"

    @property
    def feast_url(self) -> str:
        """The Feast feature server's address."""
        return f"http://{self.feast_host}:{self.feast_port}"

    def feast_environment(self) -> dict[str, str]:
        """The variables that feature_store.yaml and definitions.py read."""
        password = self.redis_password.get_secret_value()
        # As JSON, since Feast takes what looks like a number for one.
        secret = f",password={json.dumps(password)}" if password else ""
        return {
            "FEAST_DATA": str(self.artefacts / "online/feast/data"),
            "FEAST_REDIS": f"{self.redis_host}:{self.redis_port},db={FEAST_REDIS_DATABASE}{secret}",
            "FEAST_USAGE": "False",
            "PYTHONPATH": str(ROOT),
        }
