"""Circuit breakers: a service that failed repeatedly is left alone for a moment.

So a dead service costs requests nothing, and one that is coming back is not stormed.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NoReturn, TypeVar

import pybreaker

from online.callers.types import NodeUnavailable, ServiceUnavailable, StoreFault
from online.roles import SERVICES
from online.tracing import NO_TRACER, Tracer

logger = logging.getLogger(__name__)

FAILURES = 3  # in a row, after which a service is left alone
RETRY_SECONDS = 1.0  # for which it is

Value = TypeVar("Value")


class Breakers:
    """A circuit breaker for each service, shared by all threads of the process."""

    def __init__(self, tracer: Tracer = NO_TRACER) -> None:
        """All are closed: every service may be used. Every call is one of the tracer's spans."""
        self._tracer = tracer
        self._states = {name: pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED) for name in SERVICES}
        self._breakers = {
            name: pybreaker.CircuitBreaker(
                fail_max=FAILURES,
                reset_timeout=RETRY_SECONDS,
                name=name,
                state_storage=state,
                throw_new_error_on_trip=False,
                exclude=[StoreFault, NodeUnavailable],
            )
            for name, state in self._states.items()
        }

    @contextmanager
    def use(self, service: str) -> Iterator[None]:
        """Stands around a call to a service and counts how it ends.

        Raises:
            ServiceUnavailable: the call did, or the service is left alone now and the call is not made.
        """
        with self._tracer.begin(service).within(), self._counted(service):
            yield

    @contextmanager
    def _counted(self, service: str) -> Iterator[None]:
        try:
            with self._breakers[service].calling():
                yield
        except pybreaker.CircuitBreakerError as error:
            raise _left_alone(service) from error
        except ServiceUnavailable as error:
            logger.warning("%s", error)
            raise

    def send(self, service: str, request: Callable[[], Callable[[], Value]]) -> Callable[[], Value]:
        """Makes a call in two halves, so that the time between them can be used for something else.

        The breaker counts both halves as one call, when it ends. What happens between them does not concern it.

        Args:
            service: the service that is called.
            request: sends the request and returns the function that waits for the response.

        Returns:
            The function that waits for the response. It raises ServiceUnavailable where either half did, and where the
            service is left alone now and nothing was sent.
        """
        if self._is_left_alone(service):
            return partial(_raise, _left_alone(service))
        span = self._tracer.begin(service)
        receive: Callable[[], Value]
        try:
            with span.within(ends=False):
                receive = request()
        except ServiceUnavailable as error:
            receive = partial(_raise, error)

        def response() -> Value:
            with span.within(), self._counted(service):
                return receive()

        return response

    def _is_left_alone(self, service: str) -> bool:
        state = self._states[service]
        opened = state.opened_at if state.state == pybreaker.STATE_OPEN else None
        return opened is not None and datetime.now(UTC) < opened + timedelta(seconds=RETRY_SECONDS)

    def states(self) -> dict[str, str]:
        """closed, open or half-open, by service."""
        return {name: breaker.current_state for name, breaker in self._breakers.items()}


def _left_alone(service: str) -> ServiceUnavailable:
    return ServiceUnavailable(service, "failed lately and is left alone for a moment")


def _raise(error: ServiceUnavailable) -> NoReturn:
    raise error
