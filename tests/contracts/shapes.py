"""The shape of what a command prints: its sentences, tables and JSON, whatever the numbers and names in them."""

import json
import re
from typing import Any

NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
VARIABLE = [
    (r"(?<![\w/])(?:[\w.~-]*/)+[\w.-]+", "PATH"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{16}\b", "HASH"),
    (r"\b(?:dense\+side|dense\+all|dense)\b", "INPUTS"),
    (r"\b(?:listwise|pointwise)\b", "OBJECTIVE"),
    (NUMBER, "N"),
]


def shape_of_value(value: Any) -> Any:
    """The structure of JSON: keys, and the types of what is in it."""
    if isinstance(value, dict):
        return {key: shape_of_value(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape_of_value(inner) for inner in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def shape_of_line(line: str, dataset: str) -> Any:
    if line.startswith("{"):
        return shape_of_value(json.loads(line))
    line = re.sub(rf"\b{re.escape(dataset)}\b", "DATASET", line)
    for pattern, name in VARIABLE:
        line = re.sub(pattern, name, line)
    return re.sub(r" +", " ", line)


def shape_of(output: str, dataset: str) -> list[Any]:
    """The shape of each line; of a table's rows, which cells hold numbers."""
    shapes: list[Any] = []
    columns: list[tuple[int, int]] = []
    for line in output.replace("}{", "}\n{").splitlines():
        if re.fullmatch(r"\s*-+(\s+-+)+", line):
            columns = [match.span() for match in re.finditer(r"-+", line)]
            shapes[-1] = shapes[-1].split()
        elif columns and re.match(r" ?\s*\d+ ", line):
            cells = [line[start : end + 1].strip() for start, end in columns[:-1]] + [line[columns[-1][0] :].strip()]
            shapes.append(["N" if re.fullmatch(NUMBER, cell) else "TEXT" for cell in cells])
        else:
            columns = []
            shapes.append(shape_of_line(line, dataset))
    return shapes
