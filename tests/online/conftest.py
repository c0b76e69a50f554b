"""Shared by the tests of the online flow: engines on stand-ins, closed at the end of the test."""

from collections.abc import Iterator

import pytest

from online.engine import Engine
from tests.online.stand_ins import Make, Services, engine_on


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Engine] = []

    def build(services: Services) -> Engine:
        made.append(engine_on(services))
        return made[-1]

    yield build
    for engine in made:
        engine.close()
