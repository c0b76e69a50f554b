"""What schemathesis is told beside /openapi.json: schemathesis.toml names this file.

A cursor is the text of an earlier response, which no schema can say: a made-up one fits the schema and is refused. So
requests that are meant to be good are sent without it; benchmarks/speed/list_requests.py follows real ones.
"""

from typing import Any

import schemathesis

from online.paging import is_whole


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: "schemathesis.Case[Any]", **kwargs: Any) -> None:
    """Takes a made-up cursor out of a good request."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for part in (case.query, case.body):
        if isinstance(part, dict) and not is_whole(str(part.get("cursor", ""))):
            part.pop("cursor", None)
