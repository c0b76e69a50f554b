"""Establishes that both READMEs name exactly the stages and verbs that exist, and hold the same commands."""

import re

import pytest
import yaml

from data_exchange_center.settings import Settings
from offline.__main__ import STAGES
from offline_to_online.__main__ import LOADERS
from services.native import ELASTICSEARCH_VERSION
from tests.conftest import CHECK, ROOT

READMES = {name: (ROOT / name).read_text("utf-8") for name in ("readme_en.md", "readme.md")}
ALL_STAGES = {
    f"{name.replace('.', '/')}.py"
    for name in (
        *STAGES,
        *LOADERS,
        CHECK,
        "online.main.s1_server",
        "online.main.s2_client",
    )
}
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
VERBS = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.M))
COMPOSE = yaml.safe_load((ROOT / "services/compose.yaml").read_text("utf-8"))["services"]

each_readme = pytest.mark.parametrize("name", READMES)


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


@each_readme
def test_the_stages_named_are_those_that_exist(name: str) -> None:
    table = re.findall(r"^\| `([\w/]+\.py)` \|", READMES[name], re.M)
    assert sorted(table) == sorted(ALL_STAGES)
    assert all((ROOT / stage).is_file() for stage in ALL_STAGES)


@each_readme
def test_the_verbs_named_are_those_that_exist(name: str) -> None:
    in_code = "\n".join(re.findall(r"`(make [^`]*)`", READMES[name]) + code_blocks(READMES[name], "bash"))
    named = {verb for line in re.findall(r"make ((?:[a-z]+ ?)+)", in_code) for verb in line.split()}
    assert named == VERBS


@each_readme
def test_the_files_named_exist(name: str) -> None:
    text = READMES[name]
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), link
    (tree,) = code_blocks(text, "text")
    folder = ""
    for line in tree.splitlines():
        paths = re.findall(r"(?<![\w.])[\w./]+(?:\.py|/)(?=\s|$)|^Makefile", re.split(r"\s{2,}(?=[^\s\w.])", line)[0])
        if not line.startswith(" "):
            folder = paths[0] if paths[0].endswith("/") else ""
        for path in paths:
            generated = path in ("offline/", "online/triton/") and folder == "data_exchange_center/"
            assert generated or (ROOT / path).exists() or (ROOT / folder / path).exists(), f"{folder}: {path}"


def test_both_have_the_same_sections_and_commands() -> None:
    english, chinese = READMES.values()
    for text in (r"^#+", r"^\|.*\|$", r"^\d\. ", r"!\[.*\]\((.*)\)"):
        assert len(re.findall(text, english, re.M)) == len(re.findall(text, chinese, re.M)), text
    assert code_blocks(english, "bash") == code_blocks(chinese, "bash") != []
    figures = [sorted(re.findall(r"\d+\.\d+|\d{1,3}(?:,\d{3})+", text)) for text in (english, chinese)]
    assert figures[0] == figures[1]


def test_containers_are_the_versions_used_and_listen_on_loopback_alone() -> None:
    feast = re.search(r"^feast\[redis\]==([\d.]+)", (ROOT / "requirements.txt").read_text("utf-8"), re.M)
    assert feast is not None
    assert COMPOSE["feast"]["image"] == f"feastdev/feature-server:{feast[1]}"
    assert COMPOSE["elasticsearch"]["image"] == f"elasticsearch:{ELASTICSEARCH_VERSION}"
    for service in COMPOSE.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for setting, default in re.findall(r"\$\{(\w+_PORT):-(\d+)\}", " ".join(service["ports"])):
            assert Settings.model_fields[setting.lower()].default == int(default)


def test_there_is_a_docker_run_line_for_each_container() -> None:
    lines = re.findall(r"^docker run .*$", READMES["readme_en.md"], re.M)
    assert len(lines) == len(COMPOSE) == 4
    for line, service in zip(lines, COMPOSE.values(), strict=True):
        assert f" {service['image']} " in f"{line} "
        inside = [port.rsplit(":", 1)[1] for port in service["ports"]]
        assert re.findall(r"-p 127\.0\.0\.1:\d+:(\d+)", line) == inside and line.count("-p ") == len(inside)
        for word in service.get("command", []):
            if word.startswith("--") and word != "--no-access-log":
                assert word in line, f"{word} is missing in: {line}"
