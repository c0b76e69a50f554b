"""The file of rules, read again when it changes; a broken edit keeps the rules that were in force."""

import logging
import threading
import time
from pathlib import Path

from data_exchange_center.settings import Settings
from online.rules import NO_RULES, Rules, RulesError, read_rules
from online.serving_data import ServingData

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # after which the file is looked at again


class RulesFile:
    """The rules in force; one object for the life of the process, used by many threads."""

    def __init__(self, file: Path | None = None) -> None:
        """`file` holds the rules; without one there are none."""
        self.file = file
        self.fault: str | None = None  # what is wrong with the file as it is now
        self._rules = NO_RULES
        self._read: tuple[object, ...] | None = None  # what `_rules` were read from, or could not be
        self._due = 0.0
        self._lock = threading.Lock()

    def start(self, data: ServingData) -> None:
        """Reads the file for the first time.

        Raises:
            RulesError: it cannot be read, or is wrong. The server does not start with rules that nobody meant.
        """
        self.current(data)
        if self.fault:
            raise RulesError(f"RULES_FILE {self.fault}")

    def current(self, data: ServingData) -> Rules:
        """The rules for this catalogue: those of the file, or the last that could be read."""
        if self.file is None:
            return NO_RULES
        now = time.monotonic()
        if now >= self._due and self._lock.acquire(blocking=False):
            try:
                self._look(self.file, data)
                self._due = now + LOOK_SECONDS
            finally:
                self._lock.release()
        return self._rules

    def _look(self, file: Path, data: ServingData) -> None:
        try:
            status = file.stat()
            state: tuple[object, ...] = (status.st_mtime_ns, status.st_size, status.st_ino, data.load_digest)
            if state == self._read:
                return
            rules, fault = read_rules(file.read_text("utf-8-sig"), data), None
        except OSError as error:
            state, fault = (error.errno, data.load_digest), f"cannot be read ({error.strerror or error})"
        except UnicodeDecodeError:
            fault = "is not UTF-8: save it as UTF-8"
        except RulesError as error:
            fault = str(error)
        if fault is None:
            self._rules = rules
            logger.info("rules of %s are in force", file)
        elif state != self._read:
            logger.error("%s %s: the rules stay as they were", file, fault)
        self.fault = f"{file} {fault}: correct it" if fault else None
        self._read = state


def rules_file(settings: Settings) -> RulesFile:
    """That of the settings."""
    return RulesFile(settings.folder(settings.rules_file) if settings.rules_file else None)
