"""Every host, port, folder and credential, from the environment or the git-ignored `.env`."""

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from data_exchange_center.addresses import Address, Nodes, addresses
from data_exchange_center.serving_names import FEAST_REDIS_DATABASE

ROOT = Path(__file__).resolve().parent.parent
ENV_FILE = ROOT / ".env"
FEAST_REPOSITORY = ROOT / "data_exchange_center/online/feast"
MOST_REPLICAS = 2  # of Elasticsearch's index, unless ES_REPLICAS says otherwise

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

    engine: Literal["pandas", "spark"] = "pandas"  # what makes the tables that have a row for each rating
    spark_master: str = "local[*]"
    spark_part_rows: Annotated[int, Field(ge=1)] = 1_000_000  # rows that one task holds
    spark_memory: Annotated[str, Field(pattern=r"^[0-9]+[mg]$")] = "2g"  # of the driver, each worker, its executor
    spark_secret: SecretStr = SecretStr("")  # of the cluster that the master belongs to, where it has one
    spark_port: Port = 7077  # of the cluster that `make spark` starts; so are the next two
    spark_page_port: Port = 7078
    spark_workers: Annotated[int, Field(ge=1)] = 2
    training_processes: Annotated[int, Field(ge=1)] = 1  # of each stage that fits; above 1, torchrun starts them
    training_memory_mib: Annotated[int, Field(ge=1)] | None = None  # of rows, a process; all of them unless given

    load_processes: Annotated[int, Field(ge=1)] | None = None  # of a loader; by default as many as there are cores
    load_check_up_to: Annotated[int, Field(ge=1)] = 100_000  # users, or items: of more a sample of so many is read back

    services: Literal["auto", "native", "docker"] = "auto"
    topology: Literal["single", "cluster"] = "single"
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
    rules_file: Path | None = None  # TOML: what is pinned, boosted, buried and capped in every list
    impression_log: bool = True
    impression_log_length: Annotated[int, Field(ge=1)] = 50_000  # lists that Redis keeps, about: some 3 KB each
    event_log_length: Annotated[int, Field(ge=1)] = 1_000_000  # events that Redis keeps, about
    experiments_file: Path | None = None
    otel_exporter_otlp_endpoint: str = ""  # of a collector of traces; without it and a file there are none
    trace_file: Path | None = None  # to which spans are appended, as lines of JSON

    # With TOPOLOGY=cluster these stand for the hosts and ports above. Only Feast and the web server keep theirs: nginx
    # listens there, in front of the nodes.
    redis_nodes: Nodes = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003,127.0.0.1:7004,127.0.0.1:7005,127.0.0.1:7006"
    es_nodes: Nodes = "127.0.0.1:9201,127.0.0.1:9202,127.0.0.1:9203"
    es_replicas: Annotated[int, Field(ge=0)] | None = None
    triton_nodes: Nodes = "127.0.0.1:8101,127.0.0.1:8111"
    feast_nodes: Nodes = "127.0.0.1:6571,127.0.0.1:6572"
    web_nodes: Nodes = "127.0.0.1:5001,127.0.0.1:5002"

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
    def is_cluster(self) -> bool:
        """Whether each service is several nodes."""
        return self.topology == "cluster"

    @property
    def es_url(self) -> str:
        """The address of the one Elasticsearch."""
        return f"http://{self.es_host}:{self.es_port}"

    @property
    def es_urls(self) -> list[str]:
        """Where clients find Elasticsearch: each of its nodes can answer."""
        return [f"http://{node}" for node in addresses(self.es_nodes)] if self.is_cluster else [self.es_url]

    @property
    def index_replicas(self) -> int:
        """How many nodes hold a copy of the index beside the one that holds the first."""
        if self.es_replicas is not None:
            return self.es_replicas
        return min(len(self.es_urls) - 1, MOST_REPLICAS)

    @property
    def triton_addresses(self) -> tuple[Address, ...]:
        """Where each Triton listens for gRPC."""
        one = Address(self.triton_host, self.triton_grpc_port)
        return addresses(self.triton_nodes) if self.is_cluster else (one,)

    @property
    def feast_url(self) -> str:
        """The Feast feature server's address."""
        return f"http://{self.feast_host}:{self.feast_port}"

    @property
    def feast_configuration(self) -> Path:
        """Feast's own settings: a Redis Cluster is another kind of online store than a Redis."""
        return FEAST_REPOSITORY / ("feature_store_cluster.yaml" if self.is_cluster else "feature_store.yaml")

    def feast_environment(self) -> dict[str, str]:
        """The variables that feast_configuration and definitions.py read."""
        password = self.redis_password.get_secret_value()
        # As JSON, since Feast takes what looks like a number for one.
        secret = f",password={json.dumps(password)}" if password else ""
        # A cluster has database 0 alone: Feast's keys, which end in its project's name, begin as none of ours does.
        one = f"{self.redis_host}:{self.redis_port},db={FEAST_REDIS_DATABASE}"
        return {
            "FEAST_DATA": str(self.artefacts / "online/feast/data"),
            "FEAST_REDIS": (",".join(map(str, addresses(self.redis_nodes))) if self.is_cluster else one) + secret,
            "FEAST_USAGE": "False",
            "PYTHONPATH": str(ROOT),
        }
