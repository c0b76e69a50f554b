"""Establishes that the image's Dockerfile copies what exists and all that the server and the daily run are made of."""

import re
import subprocess
from pathlib import Path, PurePath

from offline.__main__ import STAGES, sources_of
from offline_to_online.__main__ import LOADERS
from tests.conftest import CHECK, ROOT

DOCKERFILE = ROOT / "services/Dockerfile"
COPIED = [source.rstrip("/") for source in re.findall(r"^COPY (?!--from)(\S+) \S+$", DOCKERFILE.read_text(), re.M)]
RULES = [line for line in Path(f"{DOCKERFILE}.dockerignore").read_text().splitlines() if line and line[0] != "#"]
MODULES = (
    *("online.main.s1_server", "online.main.app", "offline.preprocess.movielens", "offline.__main__"),
    *("offline_to_online.__main__", CHECK, *STAGES, *LOADERS),
    *("online_to_offline.s1_log_to_tables", "online_to_offline.s2_training_rows"),
)


def tracked(*paths: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def is_sent(path: str) -> bool:
    """Whether a path is sent to the builder: as in .dockerignore, the last rule that matches it or a parent decides."""
    sent = True
    for rule in RULES:
        pattern = rule.removeprefix("!")
        parents = [PurePath(path), *PurePath(path).parents][:-1]
        if any(parent.match(pattern) if "**" in pattern else _matches(parent, pattern) for parent in parents):
            sent = rule.startswith("!")
    return sent


def _matches(path: PurePath, pattern: str) -> bool:
    return len(path.parts) == len(PurePath(pattern).parts) and path.match(pattern)


def test_all_that_is_copied_is_tracked_and_sent() -> None:
    assert len(COPIED) == 6
    for source in COPIED:
        assert tracked(source), source
        assert all(is_sent(file) for file in tracked(source)), source


def test_no_data_and_no_secret_is_sent() -> None:
    for path in (
        *(".env", ".git/config", "data/generated-2024/ratings.dat", "services/kubernetes/overlays/small/secrets.env"),
        *("data_exchange_center/offline/users.parquet", "data_exchange_center/online/feast/data/registry.db"),
        *("data_exchange_center/online/triton/ml_rec/1/model.onnx", "data_exchange_center/.stages/x.json"),
    ):
        assert not is_sent(path), path


def test_the_image_has_all_that_its_processes_import() -> None:
    sources = {str(file.relative_to(ROOT)) for module in MODULES for file in sources_of(module)}
    assert len(sources) > 100
    assert sources <= set(tracked(*COPIED))


def test_the_image_runs_without_root() -> None:
    last = DOCKERFILE.read_text().split("\nFROM ")[-1]
    assert "\nUSER 1000:1000\n" in last and last.index("COPY online/") < last.index("USER")
