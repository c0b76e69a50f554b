"""The next page of a list, from a token that carries what has been shown: the server keeps nothing of it.

A token holds the rows of the items shown, ascending, as compressed differences: about a byte and a half an item. With
them stand the tags of the person and of the catalogue that it is of. It is no secret, and who forges one hides items
from nobody but themselves; a checksum tells a damaged one from a whole one.
"""

import base64
import hashlib
import zlib

import numpy as np

from data_exchange_center.arrays import Int64Array
from online.item_table import ItemTable

LONGEST_CURSOR = 6000  # characters, so that it fits a query beside the other parameters
MOST_SHOWN = 20_000  # items
VERSION = b"\x01"
TAG_BYTES, CATALOGUE_BYTES, CHECKSUM_BYTES = 8, 4, 8
HEAD_BYTES = len(VERSION) + TAG_BYTES + CATALOGUE_BYTES
GAP = np.dtype("<u4")


class CursorError(ValueError):
    """A cursor that cannot be used, and why."""

    is_expected = True


def tag_of(person: str) -> bytes:
    """Tells one person's cursors from another's, without saying who it is."""
    return hashlib.blake2b(person.encode(), digest_size=TAG_BYTES).digest()


def cursor_after(shown: Int64Array, tag: bytes, table: ItemTable) -> str | None:
    """The token of the page after these items; None where they are too many for one, and the list ends.

    Args:
        shown: [k] distinct rows of `table`.
        tag: of whom the list is for.
        table: the catalogue.
    """
    if len(shown) > MOST_SHOWN:
        return None
    gaps = np.diff(np.sort(shown), prepend=-1).astype(GAP)
    planes = gaps.view(np.uint8).reshape(-1, GAP.itemsize).T  # the high bytes, zeros nearly all, beside each other
    body = VERSION + tag + table.digest + zlib.compress(planes.tobytes(), 9)
    cursor = base64.urlsafe_b64encode(body + _checksum(body)).rstrip(b"=").decode()
    return cursor if len(cursor) <= LONGEST_CURSOR else None


def shown_by(cursor: str, tag: bytes, table: ItemTable) -> Int64Array:
    """[k] the rows of the items that were shown before a page, ascending.

    Args:
        cursor: as `cursor_after` made it.
        tag: of whom the request is for.
        table: the present catalogue.

    Raises:
        CursorError: it is damaged, somebody else's, or of another catalogue.
    """
    again = "ask without a cursor to begin again"
    body = _opened(cursor)
    if body is None:
        raise CursorError(f"must be the cursor of a response, as it came: {again}")
    of_person, of_catalogue = np.split(np.frombuffer(body[len(VERSION) : HEAD_BYTES], np.uint8), [TAG_BYTES])
    if of_person.tobytes() != tag:
        raise CursorError(f"is of somebody else's list: {again}")
    if of_catalogue.tobytes() != table.digest:
        raise CursorError(f"is of a catalogue that has been replaced since: {again}")
    rows = _rows(body[HEAD_BYTES:])
    if rows is None or (len(rows) and rows[-1] >= len(table)):
        raise CursorError(f"must be the cursor of a response, as it came: {again}")
    return rows


def is_whole(cursor: str) -> bool:
    """Whether `cursor_after` made it, of whomever and whatever it is."""
    return _opened(cursor) is not None


def _opened(cursor: str) -> bytes | None:
    """What stands in a token before its checksum; None where the two do not belong together."""
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:  # of base64, and of text that is not ASCII
        return None
    body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
    is_right = len(body) >= HEAD_BYTES and body.startswith(VERSION) and checksum == _checksum(body)
    return body if is_right else None


def _rows(compressed: bytes) -> Int64Array | None:
    """What `cursor_after` compressed; None where it is something else. No more is unpacked than a page can have."""
    unpacker = zlib.decompressobj()
    try:
        planes = unpacker.decompress(compressed, MOST_SHOWN * GAP.itemsize)
    except zlib.error:
        return None
    if not unpacker.eof or len(planes) % GAP.itemsize:
        return None
    gaps = np.frombuffer(planes, np.uint8).reshape(GAP.itemsize, -1).T.copy().view(GAP)[:, 0].astype(np.int64)
    return np.cumsum(gaps) - 1 if (gaps > 0).all() else None


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=CHECKSUM_BYTES, person=b"recsys cursor").digest()
