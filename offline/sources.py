"""Which of the project's files a module is made of: what a stage's result follows from, beside what it reads."""

import ast
from pathlib import Path

from data_exchange_center.settings import ROOT


def sources_of(module: str) -> set[Path]:
    """The project's files that a module is made of.

    They are its own file and, transitively, those of the modules that it imports from the project, with the packages
    that these lie in.
    """
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        place = ROOT / name.replace(".", "/")
        file = place / "__init__.py" if place.is_dir() else place.with_name(f"{place.name}.py")
        if not file.exists() or file in found:
            continue
        found.add(file)
        waiting += [name.rpartition(".")[0]] if "." in name else []
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
    return found
