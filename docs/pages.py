"""The project's documents as text: recorded output, numbers that are filled in, and tables that the code is told from.

Three kinds of passages are written by `python -m docs.walk` and never by hand:

    ```bash                                   the command of a step, and after the marker
    .venv/bin/python -m some.stage            what it printed when the walk was recorded
    ```
    <!-- output: name -->
    ```text
    ...
    ```

    <!-- filled in from docs/results.json     a template of Markdown, and after it the same with its numbers
    | Recall@50 | {evaluate/systems/recommender/recall@50/value:.3f} |
    -->
    | Recall@50 | 0.525 |
    <!-- end -->

    <!-- generated: name -->                  a table that docs/reference.py makes from the code
    ...
    <!-- end -->
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_exchange_center.settings import ROOT

READMES = (ROOT / "readme_en.md", ROOT / "readme.md")
RESULTS_FILE = ROOT / "docs/results.json"

_RECORDED = re.compile(
    r"```bash\n(?P<commands>(?:(?!```).*\n)+)```\n"
    r"<!-- output: (?P<name>[\w.]+) -->\n"
    r"```text\n(?P<output>(?:(?!```).*\n)*)```"
)
_FILLED = re.compile(
    r"(?P<head><!-- filled in from docs/results\.json\n(?P<template>.*?)\n-->\n)(?P<text>.*?)(?P<tail><!-- end -->)",
    re.S,
)
_GENERATED = re.compile(r"(?P<head><!-- generated: (?P<name>\w+) -->\n)(?P<text>.*?)(?P<tail><!-- end -->)", re.S)
# A path may hold colons of its own: only what looks like a number's format ends it.
_VALUE = re.compile(r"\{(?P<path>[^{}]+?)(?::(?P<format>[+,]?(?:\.\d)?[f]?))?\}")


class MissingResult(Exception):
    """A document asks for a result that docs/results.json does not have."""

    is_expected = True


@dataclass(frozen=True)
class Recorded:
    """A step of the walk: its commands, and what they printed."""

    name: str
    commands: str
    output: str


def all_pages() -> list[Path]:
    """Every document, the readmes first."""
    return [
        *READMES,
        *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted(ROOT.glob("docs/**/*.md")),
    ]


def recorded_steps(text: str) -> list[Recorded]:
    """The steps with recorded output, in the page's order."""
    return [Recorded(m["name"], m["commands"], m["output"]) for m in _RECORDED.finditer(text)]


def with_outputs(text: str, outputs: Mapping[str, str]) -> str:
    """The page with the output of each step that is named replaced."""

    def replace(match: re.Match[str]) -> str:
        output = outputs.get(match["name"], match["output"])
        return match[0][: match.start("output") - match.start()] + output + "```"

    return _RECORDED.sub(replace, text)


def templates(text: str) -> list[tuple[str, str]]:
    """The template and the text of each passage that is filled in."""
    return [(match["template"], match["text"].removesuffix("\n")) for match in _FILLED.finditer(text)]


def paths_in(template: str) -> Iterator[tuple[str, ...]]:
    """The path of each result that a template asks for."""
    for match in _VALUE.finditer(template):
        yield tuple(match["path"].split("/"))


def look_up(results: Any, path: tuple[str, ...]) -> Any:
    """The result at a path of keys; a number is the place in a list.

    Raises:
        MissingResult: there is none.
    """
    found = results
    for key in path:
        try:
            found = found[int(key)] if isinstance(found, list | tuple) else found[key]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise MissingResult(f"docs/results.json has no {'/'.join(path)}, which the documents show.") from error
    return found


def filled(template: str, results: Mapping[str, Any]) -> str:
    """The template with its results."""
    return _VALUE.sub(lambda m: format(look_up(results, tuple(m["path"].split("/"))), m["format"] or ""), template)


def with_results(text: str, results: Mapping[str, Any]) -> str:
    """The page with all its templates filled in."""
    return _FILLED.sub(lambda m: m["head"] + filled(m["template"], results) + "\n" + m["tail"], text)


def generated_tables(text: str) -> dict[str, str]:
    """The tables that are made from the code, by name."""
    return {match["name"]: match["text"].removesuffix("\n") for match in _GENERATED.finditer(text)}


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """The page with the tables that are made from the code replaced."""
    return _GENERATED.sub(lambda m: m["head"] + tables[m["name"]] + "\n" + m["tail"], text)


def prose(text: str) -> str:
    """What a person wrote: the page without code, recorded output and whatever is filled in or generated."""
    for passage in (_FILLED, _GENERATED):
        text = passage.sub("", text)
    return re.sub(r"```.*?```|`[^`\n]*`|<!--.*?-->", "", text, flags=re.S)


def code_blocks(text: str, language: str) -> list[str]:
    """The content of each fenced block of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)
