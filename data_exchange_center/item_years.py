"""The year of each item, by which a list can be narrowed: from an own table's column, else from the title's end.

The index and the server both call the function below, so that they agree on every item.
"""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from data_exchange_center.columns import Column

YEAR_COLUMNS = ("year", "release_year")  # categories of the items of an own table that are taken for years
IN_TITLE = r"\((?P<year>[0-9]{4})(?:[-–][0-9]{0,4})?\)[ \t]*$"  # of "Dune (1984)" and of "Alias (2001-2006)" the first
LATEST_YEAR = 9999


def item_years(items: pa.Table, categories: Mapping[str, tuple[str, ...]]) -> list[int | None]:
    """The year of each item, in the table's order; None where neither column nor title says one.

    Args:
        items: catalogue entry ITEMS, with the titles and those of YEAR_COLUMNS that it has.
        categories: of the items, by their column's name.
    """
    years = pc.cast(pc.struct_field(pc.extract_regex(items[Column.TITLE], IN_TITLE), "year"), pa.int32())
    for name in YEAR_COLUMNS:
        if name in categories:
            of_category = pa.array([None, *map(_year, categories[name])], pa.int32())
            years = pc.coalesce(of_category.take(pc.cast(items[name], pa.int64())), years)
    found: list[int | None] = years.to_pylist()
    return found


def year_columns(categories: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The columns of catalogue entry ITEMS that `item_years` reads besides the title."""
    return [name for name in YEAR_COLUMNS if name in categories]


def _year(category: str) -> int | None:
    """The year that a category says; None where it says something else."""
    try:
        year = int(float(category))
    except (ValueError, OverflowError):
        return None
    return year if 0 <= year <= LATEST_YEAR else None
