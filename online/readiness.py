"""Whether every service can be used now."""

from concurrent.futures import Future, ThreadPoolExecutor, wait

from online.callers.types import Expected
from online.roles import ServingBackends

PING_SECONDS = 1.0  # that all services together have to respond


class Readiness:
    """Asks the services, all of them at once and past their breakers."""

    def __init__(self, backends: ServingBackends, threads: int) -> None:
        """`threads` are kept for it."""
        self._backends = backends.by_service()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ready")

    def missing(self, expected: Expected) -> dict[str, str]:
        """The services that cannot be used, or do not hold what is expected, with the reason."""
        pings = {service: self._pool.submit(backend.ping, expected) for service, backend in self._backends.items()}
        wait(pings.values(), timeout=PING_SECONDS)
        faults = {service: _fault(ping) for service, ping in pings.items()}
        return {service: fault for service, fault in faults.items() if fault}

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=False)


def _fault(ping: Future[None]) -> str | None:
    if not ping.done():
        return f"no response within {PING_SECONDS:g} s"
    error = ping.exception()
    return None if error is None else str(error) or type(error).__name__
