"""Shared by all tests: a generated data set, its artefacts, and the four real servers on free ports."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, sync_playwright

from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.scale import Scale
from testkit.stack import settings_of_its_own

CHECK = "offline_to_online.rank.s3_check_offline_and_online"
ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Large enough for popularity < FM < DeepFM to hold. The ids go into the hundreds of thousands,
# with gaps between them, since nothing in the code may know ML-1M's bounds.
SCALE = Scale(users=943, items=1682, ratings=100_000, max_userid=900_000, max_itemid=500_000)

# Small fits take half the time by one thread, and a test's servers have the other core.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def run_module(
    module: str, *arguments: str, base: Mapping[str, str] = os.environ, **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module` in the root with these settings on top of an environment, and waits."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**base, **env},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def succeed(module: str, *arguments: str, base: Mapping[str, str] = os.environ, **env: str) -> str:
    """As `run_module`; fails the test unless the status is 0. Returns what was printed."""
    done = run_module(module, *arguments, base=base, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Offline:
    """The artefacts of the generated data set, and what the stages printed when they made them."""

    env: dict[str, str]
    data: Path
    artefacts: Path
    printed: str

    def printed_by(self, stage: str) -> str:
        """What one of the stages printed."""
        after = self.printed.split(f"{stage}:\n")[1]
        return re.split(r"^  [\d.]+ s, \d+ MiB at most$", after, maxsplit=1, flags=re.M)[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need the artefacts come last: these are made while the others run, on the other core."""
    items.sort(key=_needs_artefacts)


def _needs_artefacts(item: pytest.Item) -> bool:
    return "offline" in getattr(item, "fixturenames", ()) or "stack" in getattr(item, "fixturenames", ())


def run_stages(data: Path, artefacts: Path, environment: dict[str, str]) -> Offline:
    """Runs all stages of offline/, whatever the tests do to this process's environment meanwhile."""
    env = {"DATA_DIR": str(data), "ARTEFACTS_DIR": str(artefacts)}
    return Offline(env, data, artefacts, printed=succeed("offline", base=environment, **env))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where the generated data set and its artefacts will be."""
    return tmp_path_factory.mktemp("raw") / "hundred-thousand", tmp_path_factory.mktemp("artefacts")


@pytest.fixture(scope="session", autouse=True)
def coming(folders: tuple[Path, Path], request: pytest.FixtureRequest) -> Iterator[Future[Offline] | None]:
    """The artefacts, in the making from the first test on, if there is one that needs them."""
    with ThreadPoolExecutor(1) as pool:
        if any(map(_needs_artefacts, request.session.items)):
            generate(folders[0], SCALE, seed=7)
            yield pool.submit(run_stages, *folders, dict(os.environ))
        else:
            yield None


@pytest.fixture(scope="session")
def offline(coming: Future[Offline]) -> Offline:
    """All stages of offline/, run once; read-only for the tests."""
    return coming.result()


@pytest.fixture
def artefacts(offline: Offline, monkeypatch: pytest.MonkeyPatch) -> Offline:
    """The same, with this process's settings pointing at it."""
    for name, value in offline.env.items():
        monkeypatch.setenv(name, value)
    return offline


@dataclass(frozen=True)
class Stack:
    """The four servers with everything loaded, and the web server."""

    env: dict[str, str]
    url: str
    artefacts: Path

    def recommend(self, userid: int, **parameters: int) -> dict[str, Any]:
        """The response of /recommend; fails the test unless its status is 200."""
        response = requests.get(f"{self.url}/recommend", {"userid": userid, **parameters}, timeout=5)
        assert response.status_code == 200, response.text
        content: dict[str, Any] = response.json()
        return content


@pytest.fixture(scope="session")
def stack(folders: tuple[Path, Path], request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Real Redis, Elasticsearch, Feast and Triton on free ports, loaded; gunicorn in front of them."""
    ports: dict[str, str] = {}
    try:
        with settings_of_its_own() as own:
            ports = {name: port for name, port in own.items() if name.endswith("_PORT")}
            env = {**own, "DATA_DIR": str(folders[0]), "ARTEFACTS_DIR": str(folders[1]), "WEB_WORKERS": "2"}
            with ThreadPoolExecutor() as pool:  # the servers start while the stages run, where those have not run yet
                started = pool.submit(succeed, "services", "start", **env)
                offline: Offline = request.getfixturevalue("offline")
                started.result()
            succeed("offline_to_online", **env)
            succeed("services", "serve", **env)
            yield Stack(env, f"http://127.0.0.1:{ports['WEB_PORT']}", offline.artefacts)
    finally:
        for name, port in ports.items():
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", int(port))) != 0, f"something still listens on {name} {port}"


@pytest.fixture
def served(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The stack, with this process's settings pointing at it."""
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)
    return stack


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        reason = "the page's tests need Chromium (Debian: apt install chromium)"
        # Where it must be there, as in CI, its absence is a failure; elsewhere these tests are skipped with the reason.
        pytest.fail(reason) if os.environ.get("REQUIRE_CHROMIUM") else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
