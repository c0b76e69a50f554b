"""Establishes that a release is downloaded, checked and unpacked, complete or not at all."""

import hashlib
import io
import logging
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import get_args

import pytest

from data_exchange_center.settings import Dataset
from offline.preprocess import movielens
from offline.preprocess.readers.text import DataError
from offline.preprocess.releases import RELEASES, Release, download

# The folders and files of GroupLens's archives: what is read, and some of what is not.
CONTENTS = {
    "ml-100k": ("ml-100k/", ["u.data", "u.item", "u.user"], ["README", "u1.base", "u.genre"]),
    "ml-1m": ("ml-1m/", ["ratings.dat", "movies.dat", "users.dat"], ["README"]),
    "ml-10m": ("ml-10M100K/", ["ratings.dat", "movies.dat"], ["tags.dat", "split_ratings.sh"]),
    "ml-latest-small": ("ml-latest-small/", ["ratings.csv", "movies.csv"], ["links.csv", "tags.csv"]),
}


def zipped(folder: str, *names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.mkdir(folder)
        for name in names:
            packed.writestr(f"{folder}{name}", f"{name} content\n")
    return content.getvalue()


@pytest.fixture
def serve() -> Iterator[Callable[[str, bytes], Release]]:
    """Puts an archive on a local server: a release with its address and md5."""
    archives: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = archives.get(self.path, b"")
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def release(name: str, content: bytes) -> Release:
        archives[f"/{name}.zip"] = content
        md5 = RELEASES[name].md5 and hashlib.md5(content).hexdigest()
        return Release(RELEASES[name].layout, f"http://127.0.0.1:{server.server_port}/{name}.zip", md5)

    yield release
    server.shutdown()
    server.server_close()
    thread.join()


def test_each_release_can_be_set() -> None:
    assert {"generated", *RELEASES} == set(get_args(Dataset))
    for name, release in RELEASES.items():
        assert release.url == f"https://files.grouplens.org/datasets/movielens/{name}.zip"
        assert name in release.layout.releases
        assert (release.md5 is None) == name.startswith("ml-latest") and len(release.md5 or "0" * 32) == 32


@pytest.mark.parametrize("name", CONTENTS)
def test_what_the_layout_needs_is_unpacked(
    tmp_path: Path, serve: Callable[[str, bytes], Release], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder, read, other = CONTENTS[name]
    content = zipped(folder, *other, *read)
    with caplog.at_level(logging.INFO):
        download(serve(name, content), tmp_path / name)
    assert {file.name: file.read_text() for file in (tmp_path / name).iterdir()} == {
        file: f"{file} content\n" for file in read
    }
    unchecked = f"{name}.zip changes from time to time: {len(content):,} bytes, no checksum to compare with."
    assert (unchecked in caplog.text) == (RELEASES[name].md5 is None)


def test_the_download_is_checked(tmp_path: Path, serve: Callable[[str, bytes], Release]) -> None:
    right = serve("ml-1m", zipped(CONTENTS["ml-1m"][0], *CONTENTS["ml-1m"][1]))
    with pytest.raises(DataError, match="md5"):
        download(Release(right.layout, right.url, "0" * 32), tmp_path / "wrong")
    for url in ("http://127.0.0.1:9/ml-1m.zip", right.url.replace("ml-1m", "nothing")):
        with pytest.raises(DataError, match="cannot be downloaded.*set DATA_DIR"):
            download(Release(right.layout, url, right.md5), tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("fault", ["no zip", "cut off", "a file is missing", "a file is damaged"])
def test_an_archive_that_is_not_whole_leaves_no_file(
    tmp_path: Path, serve: Callable[[str, bytes], Release], fault: str
) -> None:
    whole = zipped("ml-latest/", "ratings.csv", "movies.csv")
    content = {
        "no zip": b"<html>Sorry</html>",
        "cut off": whole[:-40],
        "a file is missing": zipped("ml-latest/", "ratings.csv", "links.csv"),
        "a file is damaged": whole.replace(b"ratings.csv content", b"ratings.csv CONTENT"),
    }[fault]
    with pytest.raises(DataError, match="cannot be unpacked .* the download is damaged"):
        download(serve("ml-latest", content), tmp_path / "data")
    assert not list(tmp_path.glob("data/*"))


def test_data_downloads_once(
    tmp_path: Path,
    serve: Callable[[str, bytes], Release],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, read, _ = CONTENTS["ml-100k"]
    monkeypatch.setitem(RELEASES, "ml-100k", serve("ml-100k", zipped(folder, *read)))
    monkeypatch.setenv("DATASET", "ml-100k")
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setattr("data_exchange_center.settings.ROOT", tmp_path)
    movielens.main()
    monkeypatch.delitem(RELEASES, "ml-100k")
    movielens.main()
    line = f"data set ml-100k: {tmp_path / 'data/ml-100k'}"
    assert capsys.readouterr().out.splitlines() == [line, line]
