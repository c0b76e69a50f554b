"""Columns of users and items that no stage before has made, each computed by one function from the entity's table.

A dense feature is added in two places. `declare` in data_exchange_center/features.py gets a line for it:

    DenseFeature("title_words", "item"),

and here stands the function of that name:

    @derived
    def title_words(items: pa.Table) -> IntArray:
        '''[items] how many words the title has.'''
        return np.array([len(title.split()) for title in items[Column.TITLE].to_pylist()])

All else follows from the declaration. The function of a user's feature gets catalogue entry USERS, that of an item's
ITEMS beside ITEM_GENRES. It gets no ratings, because the column is the same for all of the entity's rows: a count over
ratings would tell a training row its own label and the future. What the past tells is the history window, which is
counted row by row in data_exchange_center/user_state.py and moved on by live events.
"""

from collections.abc import Callable

import pyarrow as pa

from data_exchange_center.arrays import IntArray

Derivation = Callable[[pa.Table], IntArray]

_FUNCTIONS: dict[str, Derivation] = {}


class DerivationError(Exception):
    """A declared feature has no column, or not the values that the artefacts can hold; the message says which."""

    is_expected = True


def derived(function: Derivation) -> Derivation:
    """Registers the function that computes the feature of the same name, [rows] whole numbers from the [rows] table."""
    _FUNCTIONS[function.__name__] = function
    return function


def add_derived(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with a column for each name of the schema that it lacks, computed by the function of that name.

    Raises:
        DerivationError: a function is missing, or does not return one value of the schema's type for each row.
    """
    given = table
    for field in schema:
        if field.name not in given.column_names:
            table = table.append_column(field.name, _column(field, given))
    return table


def _column(field: pa.Field, table: pa.Table) -> pa.Array:
    if field.name not in _FUNCTIONS:
        raise DerivationError(
            f"The feature {field.name} is declared, but no stage makes its column: "
            f"add the function {field.name} to offline/rank/derived_features.py."
        )
    try:
        values = pa.array(_FUNCTIONS[field.name](table)).cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DerivationError(f"The feature {field.name} does not fit into {field.type}: {error}") from error
    if len(values) != len(table) or values.null_count:
        raise DerivationError(
            f"The feature {field.name} has {len(values)} values, of which {values.null_count} are empty, "
            f"for {len(table)} rows."
        )
    return values
