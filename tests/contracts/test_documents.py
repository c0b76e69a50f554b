"""Establishes that the documents are true: what they name exists, and their tables and numbers are the present ones."""

import json
import re
import shlex
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from prometheus_client import REGISTRY

from data_exchange_center.settings import Settings
from docs import pages, reference, results, walk
from online.main import metrics
from online.main.openapi import openapi_document
from services.elasticsearch_distribution import ELASTICSEARCH_VERSION
from tests.conftest import ROOT
from tests.contracts.test_readmes import ALL_STAGES
from tests.contracts.test_structure import MAY_IMPORT, WAY_BACK

TEXTS = {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in pages.all_pages()}
CHINESE = {name: name.replace("docs/", "docs/zh/") for name in TEXTS if name.startswith("docs/") and "/zh/" not in name}
BOTH_LANGUAGES = [("readme_en.md", "readme.md"), *((one, other) for one, other in CHINESE.items() if other in TEXTS)]
VERBS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M))
VARIABLES = {*map(str.upper, Settings.model_fields), "VERSION"}  # what may stand after a verb
COMPOSE = yaml.safe_load((ROOT / "services/compose.yaml").read_text("utf-8"))["services"]

MEASURED = [name for name in TEXTS if re.search(r"^readme|benchmarks|differences", name.rsplit("/", 1)[-1])]

each_page = pytest.mark.parametrize("name", TEXTS)


def command_lines(text: str) -> list[str]:
    return [line for block in pages.code_blocks(text, "bash") for line in block.splitlines()]


# --- both languages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("english", "chinese"), BOTH_LANGUAGES)
def test_both_languages_carry_the_same(english: str, chinese: str) -> None:
    one, other = TEXTS[english], TEXTS[chinese]
    for mark in (r"^#+ ", r"^\|.*\|$", r"^\d\. ", r"^- ", r"!\[.*\]\("):
        assert len(re.findall(mark, one, re.M)) == len(re.findall(mark, other, re.M)), mark
    assert pages.code_blocks(one, "bash") == pages.code_blocks(other, "bash")
    assert pages.code_blocks(one, "text") == pages.code_blocks(other, "text")
    numbers = [sorted(re.findall(r"\d+\.\d+|\d{1,3}(?:,\d{3})+", text)) for text in (one, other)]
    assert numbers[0] == numbers[1]


def test_every_page_in_english_has_one_in_chinese() -> None:
    assert {page.name for page in (ROOT / "docs/zh").glob("*.md")} == {
        page.name
        for page in (ROOT / "docs").glob("*.md")
        if page.name != "glossary.md"  # which holds both
    }


# --- every command exists --------------------------------------------------------------------------------------------

# Of the containers' lines, which are compared with compose.yaml below, and of Kubernetes's: tests/services/.
HELPERS = {"mkdir", "grep", "docker", "export", "kubectl", "openssl", "cp", "cd"}


@each_page
def test_every_command_exists(name: str) -> None:
    in_text = re.findall(r"`((?:make|\.venv/bin/python -m|python -m) [^`{}…]+)`", TEXTS[name])
    for line in [*command_lines(TEXTS[name]), *in_text]:
        program, *arguments = shlex.split(line.split(" | ")[0])
        while re.fullmatch(r"[A-Z_]+=\S*", program):  # a variable for this command
            program, *arguments = arguments
        if program == "make":
            named = {word for word in arguments if "=" not in word}
            assert named and named <= VERBS, line
            assert {word.split("=")[0] for word in arguments if "=" in word} <= VARIABLES, line
        elif program in (".venv/bin/python", "python"):
            check_module(arguments, line)
        elif program == "torchrun":
            check_module(arguments[arguments.index("-m") :], line)
        elif program == "curl":
            check_request(arguments, line)
        else:
            assert program in HELPERS, line


def check_module(arguments: list[str], line: str) -> None:
    if arguments == ["-m"]:
        return
    assert arguments[0] == "-m", line
    file = ROOT / arguments[1].replace(".", "/")
    file = file / "__main__.py" if file.is_dir() else file.with_suffix(".py")
    assert file.is_file(), line
    source = file.read_text("utf-8")
    for word in arguments[2:]:
        assert word.isdigit() or word == "…" or f'"{word}"' in source, f"{line}: {file} knows no {word}"


def check_request(arguments: list[str], line: str) -> None:
    """Against the contract: path, method, parameters and the fields of the body."""
    (url,) = (word for word in arguments if word.startswith("http://127.0.0.1:"))
    parts = urlsplit(url)
    defaults = {name: field.default for name, field in Settings.model_fields.items() if name.endswith("_port")}
    assert parts.port in defaults.values(), line
    if parts.port != defaults["web_port"]:
        return  # the server of a service: its line is run below
    method = arguments[arguments.index("-X") + 1].lower() if "-X" in arguments else "get"
    if parts.path in ("/", "/metrics", "/openapi.json"):
        assert method == "get", line
        return
    document = openapi_document()
    operation = document["paths"][parts.path][method]
    known = {parameter["name"] for parameter in operation.get("parameters", ())}
    assert {name for name, _ in parse_qsl(parts.query)} <= known, line
    if "-d" in arguments:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = set(json.loads(arguments[arguments.index("-d") + 1]))
        names = [one["$ref"].rsplit("/", 1)[1] for one in schema.get("anyOf", [schema]) if "$ref" in one]
        assert any(body <= set(document["components"]["schemas"][name]["properties"]) for name in names), line


@each_page
def test_links_and_paths_lead_somewhere(name: str) -> None:
    folder = (ROOT / name).parent
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXTS[name]):
        assert (folder / link).exists(), link
    for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|yaml|json|md|toml))`", TEXTS[name]):
        declared = {artefact.path for artefact in reference.artefacts()}
        assert (ROOT / path).exists() or path in declared or path.startswith(".run/"), path


@each_page
def test_no_page_names_a_machine(name: str) -> None:
    assert not re.search(r"/(?:root|home|work|tmp)/", TEXTS[name])


@each_page
def test_links_to_sections_lead_to_sections(name: str) -> None:
    for link, section in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", TEXTS[name]):
        page = (ROOT / name).parent / link if link else ROOT / name
        headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert section in anchors, f"{link}#{section}"


# --- reference -------------------------------------------------------------------------------------------------------


def first_column(page: str, heading: str) -> list[str]:
    """The first cells of the first table below a heading."""
    section = TEXTS[page].split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \|", section, re.M)
    return rows[1:]


@pytest.mark.parametrize(("page", "heading"), [("docs/operations.md", "Verbs"), ("docs/zh/operations.md", "动词")])
def test_the_verbs_are_those_of_the_makefile(page: str, heading: str) -> None:
    assert {verb for cell in first_column(page, heading) for verb in re.findall(r"`make ([a-z-]+)`", cell)} == VERBS


@pytest.mark.parametrize(("page", "heading"), [("docs/operations.md", "Settings"), ("docs/zh/operations.md", "设置")])
def test_the_settings_are_those_that_are_read(page: str, heading: str) -> None:
    named = [name for cell in first_column(page, heading) for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(name.upper() for name in Settings.model_fields)
    section = TEXTS[page].split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    for row in re.findall(r"^\| (`.*)$", section, re.M):
        names, values = (re.findall(r"`([^`]+)`", cell) for cell in row.split(" |")[:2])
        for setting, value in zip(names, values, strict=False):
            assert str(Settings.model_fields[setting.lower()].default) == value, setting


@pytest.mark.parametrize(
    ("page", "heading"), [("docs/operations.md", "Metrics"), ("docs/zh/operations.md", "监控指标")]
)
def test_the_metrics_are_those_that_are_exposed(page: str, heading: str) -> None:
    assert metrics.REQUESTS
    named = {cell.strip("`") for cell in first_column(page, heading)}
    assert named == {metric.name for metric in REGISTRY.collect() if metric.name.startswith("recsys_")}


@pytest.mark.parametrize("page", ["docs/api.md", "docs/zh/api.md"])
def test_the_endpoints_are_those_of_the_contract(page: str) -> None:
    named = re.findall(r"^\| `(/[\w.]*)` \|", TEXTS[page], re.M)
    assert sorted(named) == sorted([*openapi_document()["paths"], "/", "/metrics", "/openapi.json"])


@pytest.mark.parametrize("page", ["docs/design.md", "docs/zh/design.md"])
def test_the_stages_are_those_that_exist(page: str) -> None:
    named = re.findall(
        r"^\| `((?:offline|offline_to_online|online|online_to_offline)/[\w/]+\.py)` \|", TEXTS[page], re.M
    )
    assert named == [f"{stage.replace('.', '/')}.py" for stage in (*ALL_STAGES, *WAY_BACK)]


@pytest.mark.parametrize("page", ["docs/design.md", "docs/zh/design.md"])
def test_the_rooms_are_those_whose_imports_are_tested(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", TEXTS[page], re.M)
    assert {room: {room, *re.findall(r"`(\w+)`", others)} for room, others in rows} == MAY_IMPORT


@each_page
def test_tables_made_from_the_code_are_up_to_date(name: str) -> None:
    now = reference.all_tables()
    for table, text in pages.generated_tables(TEXTS[name]).items():
        assert text == now[table], f"`python -m docs.walk --fill` writes {name} again"


def test_the_glossary_has_a_line_a_term() -> None:
    rows = [line.split(" | ") for line in TEXTS["docs/glossary.md"].splitlines() if line.startswith("| ")]
    assert len(rows) > 50 and all(len(row) == 4 for row in rows)
    terms = [row[0].removeprefix("| ") for row in rows[1:]]
    assert len(set(terms)) == len(terms)


# --- numbers ---------------------------------------------------------------------------------------------------------

# What is not measured: boosts, versions, the address, and what the original was measured at.
STATED = {"0.1", "0.9", "1.2", "127.0", "3.11", "3.12", "8.19", "0.67", "7.4", "25.06", "3.2", "4.8", "1.0", "1.1"}


@each_page
def test_numbers_are_those_of_the_results(name: str) -> None:
    committed = results.read_results()
    for template, text in pages.templates(TEXTS[name]):
        assert text == pages.filled(template, committed), f"`python -m docs.walk --fill` writes {name} again"


@pytest.mark.parametrize("name", MEASURED)
def test_no_measured_number_is_written_by_hand(name: str) -> None:
    written = re.sub(r"^#+ .*$", "", pages.prose(TEXTS[name]), flags=re.M)
    assert set(re.findall(r"(?<![\d.])\d+\.\d+", written)) <= STATED


def test_the_results_are_what_the_documents_show_and_say_where_they_come_from() -> None:
    committed = results.read_results()
    assert results.kept({}, committed, results.asked_for()) == committed  # nothing is missing, nothing left over
    for section, content in committed.items():
        if section != "odd_requests":
            assert content["dataset"] == walk.DEFAULT_DATASET, section
            assert content.get("seed", 2024) == 2024, section
        if section in ("evaluate", "bench"):
            assert content["machine"]["cores"] and len(content["machine"]["load_average"]) == 3, section


def test_results_of_another_data_set_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_DIR", str(tmp_path))
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path))
    (tmp_path / "ablation.json").write_text('{"dataset": "ml-1m", "seed": 2024, "variants": []}')
    with pytest.raises(results.WrongReport, match="ablation was measured on ml-1m"):
        results.measured_now(Settings())


def test_an_evaluation_without_the_server_is_not_taken_for_one_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_DIR", str(tmp_path))
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path))
    (tmp_path / "evaluate.json").write_text('{"dataset": "generated", "seed": 2024, "server_and_artefacts": null}')
    assert results.measured_now(Settings()) == {}


def test_a_number_that_nothing_measured_is_missed() -> None:
    with pytest.raises(pages.MissingResult, match="evaluate/nothing"):
        pages.filled("{evaluate/nothing:.3f}", {"evaluate": {}})
    text = "<!-- filled in from docs/results.json\n{a: b/c:.2f} {a: b/d:,}\n-->\nold\n<!-- end -->\n"
    assert "\n0.67 1,234\n<!-- end -->" in pages.with_results(text, {"a: b": {"c": 2 / 3, "d": 1234}})


# --- containers ------------------------------------------------------------------------------------------------------


def test_containers_are_the_versions_used_and_listen_on_loopback_alone() -> None:
    feast = re.search(r"^feast\[redis\]==([\d.]+)", (ROOT / "requirements.txt").read_text("utf-8"), re.M)
    assert feast is not None
    assert COMPOSE["feast"]["image"] == f"feastdev/feature-server:{feast[1]}"
    assert COMPOSE["elasticsearch"]["image"] == f"elasticsearch:{ELASTICSEARCH_VERSION}"
    for page in ("docs/operations.md", "docs/zh/operations.md"):
        assert f"| Elasticsearch {ELASTICSEARCH_VERSION} |" in TEXTS[page] and f"| Feast {feast[1]} |" in TEXTS[page]
    for service in COMPOSE.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for setting, default in re.findall(r"\$\{(\w+_PORT):-(\d+)\}", " ".join(service["ports"])):
            assert Settings.model_fields[setting.lower()].default == int(default)


@pytest.mark.parametrize("page", ["docs/operations.md", "docs/zh/operations.md"])
def test_there_is_a_docker_run_line_for_each_container(page: str) -> None:
    lines = re.findall(r"^docker run .*$", TEXTS[page], re.M)
    assert len(lines) == len(COMPOSE) == 4
    for line, service in zip(lines, COMPOSE.values(), strict=True):
        assert f" {service['image']} " in f"{line} "
        inside = [port.rsplit(":", 1)[1] for port in service["ports"]]
        assert re.findall(r"-p 127\.0\.0\.1:\d+:(\d+)", line) == inside and line.count("-p ") == len(inside)
        for word in service.get("command", []):
            if word.startswith("--") and word != "--no-access-log":
                assert word in line, f"{word} is missing in: {line}"
        for variable in service.get("environment", {}):
            # A secret comes from the environment: what stands on a command line can be read by every user.
            is_secret = variable in ("REDIS_PASSWORD", "ELASTIC_PASSWORD", "FEAST_REDIS")
            assert f"-e {variable}{' ' if is_secret else '='}" in line, line
