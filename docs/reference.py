"""Tables of the documents that are made from the code: the artefacts from the catalogue, the tree from docstrings."""

import ast
from pathlib import Path

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefact
from data_exchange_center.settings import ROOT
from data_exchange_center.table_artefact import Table

ROOMS = (
    "data_exchange_center",
    "offline",
    "offline_to_online",
    "online",
    "online_to_offline",
    "services",
    "testkit",
    "benchmarks",
    "docs",
)


def artefacts() -> list[Artefact]:  # type: ignore[type-arg]
    """Everything that the catalogue declares, in its order."""
    return [entry for entry in vars(catalogue).values() if isinstance(entry, Artefact)]


def artefact_table() -> str:
    """A row for each artefact: its file, what it is, who writes it, and the keys that are checked when it is read."""
    lines = ["| artefact | what it holds | written by | checked when it is read |", "|---|---|---|---|"]
    for artefact in artefacts():
        writer = Path(artefact.writer)
        lines.append(
            f"| `{artefact.path}` | {artefact.about} | `{writer.parent.name}/{writer.stem}` | {_checks(artefact)} |"
        )
    return "\n".join(lines)


def _checks(artefact: Artefact) -> str:  # type: ignore[type-arg]
    if not isinstance(artefact, Table):
        return {"Array": "type of the numbers", "Json": "every field", "StateDict": "tensors only"}[
            type(artefact).__name__
        ]
    checks = ["schema"]
    if artefact.sorted_by:
        checks.append(f"sorted by {', '.join(artefact.sorted_by)}{', each once' if artefact.unique else ''}")
    if artefact.aligned_with:
        checks.append(f"made from the present `{Path(artefact.aligned_with.path).stem}`, row by row")
    return "; ".join(checks)


def modules() -> list[Path]:
    """Every module of the rooms, folder by folder; packages' own files are left out."""
    files = (file.relative_to(ROOT) for room in ROOMS for file in (ROOT / room).rglob("*.py"))
    own = [file for file in files if file.name != "__init__.py"]
    return sorted(own, key=lambda file: (ROOMS.index(file.parts[0]), file.parent, file.name))


def module_tree() -> str:
    """The tree of all modules, each with the first sentence of its docstring."""
    lines = ["```text"]
    folder = Path()
    for module in modules():
        if module.parent != folder:
            folder = module.parent
            lines.append(_described(f"{folder}/", folder / "__init__.py"))
        lines.append(_described(f"  {module.name}", module))
    return "\n".join([*lines, "```"])


def _described(name: str, module: Path) -> str:
    file = ROOT / module
    docstring = ast.get_docstring(ast.parse(file.read_text("utf-8"))) if file.exists() else None
    first_paragraph = (docstring or "").split("\n\n")[0].replace("\n", " ")
    return f"{name:<32}{first_paragraph.split('. ')[0].rstrip('.:')}".rstrip()


TABLES = {"artefacts": artefact_table, "tree": module_tree}


def all_tables() -> dict[str, str]:
    """Every generated table by its name."""
    return {name: make() for name, make in TABLES.items()}
