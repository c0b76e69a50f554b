"""dataset.toml: what describes a table of one's own. An empty one is valid; every key has a default.

positive_above = 3            # a rating above it is a positive
online_rows = 10              # each user's last rows, kept for the online evaluation

[ratings]
file = "ratings.csv"          # .csv, .tsv or .parquet; default: ratings. with the one of these that is there
userid = "userid"             # the columns' names in the file
itemid = "itemid"
rating = "rating"
timestamp = "timestamp"

[users]                       # default: the file users., where it is there
file = "users.csv"
userid = "userid"             # default: the ratings' name for it
categories = ["country"]      # default: every other column

[items]                       # likewise items.
file = "items.csv"
itemid = "itemid"
title = "title"               # default: title, where there is such a column
genres = "genres"             # likewise: several categories in one field
separator = "|"               # between two of them
categories = ["brand"]        # default: every other column
"""

import re
import tomllib
from pathlib import Path, PurePath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from offline.preprocess.readers.layout import ONLINE_ROWS
from offline.preprocess.readers.text import DataError, fault

DESCRIPTION = "dataset.toml"
SUFFIXES = (".csv", ".tsv", ".parquet")
RULES = {  # by pydantic's types of errors
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "tuple_type": "must be a list of texts",
    "model_type": "must be a section",
}


def _within_folder(name: str) -> str:
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError("must be a path within the folder of dataset.toml, with / between its parts")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    return name


def _once_each(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must name each column once")
    return names


Name = Annotated[str, Field(min_length=1)]
FileName = Annotated[str, AfterValidator(_within_folder)]
# TOML has lists alone, which the strict mode would refuse for a tuple.
Names = Annotated[tuple[Name, ...], Field(strict=False), AfterValidator(_once_each)]


class Section(BaseModel):
    """A strict part of the description: a key that is not declared, or of another type, is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RatingsColumns(Section):
    """The file of ratings and its columns' names."""

    file: FileName | None = None
    userid: Name = "userid"
    itemid: Name = "itemid"
    rating: Name = "rating"
    timestamp: Name = "timestamp"

    @property
    def names(self) -> tuple[str, str, str, str]:
        """The four columns."""
        return self.userid, self.itemid, self.rating, self.timestamp

    @model_validator(mode="after")
    def _are_four(self) -> "RatingsColumns":
        _once_each(self.names)
        return self


class UsersColumns(Section):
    """The file of users and its columns' names."""

    file: FileName | None = None
    userid: Name | None = None
    categories: Names | None = None


class ItemsColumns(Section):
    """The file of items and its columns' names."""

    file: FileName | None = None
    itemid: Name | None = None
    title: Name = "title"
    genres: Name = "genres"
    separator: Name = "|"
    categories: Names | None = None

    @model_validator(mode="after")
    def _are_two(self) -> "ItemsColumns":
        _once_each((self.title, self.genres))
        return self


class Description(Section):
    """All that dataset.toml says."""

    positive_above: Annotated[float, Field(allow_inf_nan=False)] = 3.0
    online_rows: Annotated[int, Field(ge=1, le=1_000_000)] = ONLINE_ROWS
    ratings: RatingsColumns = RatingsColumns()
    users: UsersColumns = UsersColumns()
    items: ItemsColumns = ItemsColumns()


def read_description(file: Path) -> Description:
    """The description in a dataset.toml.

    Raises:
        DataError: it is no UTF-8 or no TOML, has an unknown key, or a value of another type or beyond its bounds.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        return Description.model_validate(tomllib.loads(text))
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise _syntax_fault(file, text, str(error)) from error
    except ValidationError as error:
        raise _value_fault(file, error) from error


def _syntax_fault(file: Path, text: str, message: str) -> DataError:
    lines = text.splitlines() or [""]
    rule, _, place = message.partition(" (at ")
    at = re.match(r"line (\d+)", place)  # or: end of document
    number = int(at[1]) if at else len(lines)
    return fault(file, number, f"no TOML ({rule})", lines[number - 1], "correct it; texts stand in double quotes")


def _value_fault(file: Path, invalid: ValidationError) -> DataError:
    """The sentence of the first fault that pydantic found."""
    error = invalid.errors()[0]
    *parents, key = [str(part) for part in error["loc"] if isinstance(part, str)]
    where = f"[{parents[0]}] " if parents else ""
    if error["type"] == "extra_forbidden":
        section = getattr(Description(), parents[0]) if parents else Description()
        keys = ", ".join(type(section).model_fields)
        return DataError(f"{file}: {where}{key} is no key of it: name one of {keys}, or take it out.")
    rule = RULES.get(error["type"], error["msg"].removeprefix("Value error, ").replace("Input should", "must"))
    return DataError(f"{file}: {where}{key} = {error['input']!r}, which {rule}: correct it.")
