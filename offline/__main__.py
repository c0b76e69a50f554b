"""Runs all stages of offline/ in order, and only those whose code, settings, inputs or outputs changed.

python -m offline            (or: make offline)
"""

import ast
import hashlib
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from data_exchange_center import catalogue
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_measured, run_stage
from offline.preprocess import movielens

STAGES = (
    "offline.preprocess.s1_data_split",
    "offline.preprocess.s2_term_trans",
    "offline.recall.s1_term_recall",
    "offline.recall.s2_vector_recall",
    "offline.rank.s1_feature_engi",
    "offline.rank.s2_model_train",
)


def sources_of(module: str) -> set[Path]:
    """The project's files that a module is made of: itself and, transitively, what it imports from the project."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = ROOT / f"{name.replace('.', '/')}.py"
        if not file.exists() or file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
    return found


def digest(file: Path) -> str:
    """sha256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def state_of(name: str, stage: ModuleType, settings: Settings) -> dict[str, Any]:
    """All that a stage's result follows from, and the result."""
    catalogue.complete_interrupted_commits()
    reads: dict[str, Any] = {a.path: digest(a.file) if a.file.exists() else None for a in stage.READS}
    if not reads:  # the first stage reads the raw data, which is large: its size and time will do
        stats = {file: (settings.raw_data / file).stat() for file in movielens.FILES}
        reads = {str(settings.raw_data / file): [s.st_size, s.st_mtime_ns] for file, s in stats.items()}
        reads["settings"] = [settings.dataset_name, settings.seed]
    return {
        "code": {str(file.relative_to(ROOT)): digest(file) for file in sorted(sources_of(name))},
        "reads": reads,
        "writes": {a.path: digest(a.file) if a.file.exists() else None for a in stage.WRITES},
    }


def run(name: str) -> None:
    """Runs a stage as a script of its own; says how long it took and the most memory it held."""
    try:
        used = run_measured([sys.executable, "-m", name])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # it has said why
    print(f"  {used.seconds:.1f} s, {used.peak_mib:.0f} MiB at most", flush=True)


def main() -> None:
    """Stage by stage."""
    settings = Settings()
    movielens.check_present(settings)
    records = settings.artefacts / ".stages"
    records.mkdir(parents=True, exist_ok=True)
    for name in STAGES:
        stage = importlib.import_module(name)
        record = records / f"{name}.json"
        if record.exists() and json.loads(record.read_text()) == state_of(name, stage, settings):
            print(f"{name}: unchanged", flush=True)
            continue
        print(f"{name}:", flush=True)
        run(name)
        record.write_text(json.dumps(state_of(name, stage, settings), indent=1))


if __name__ == "__main__":
    run_stage(main)
