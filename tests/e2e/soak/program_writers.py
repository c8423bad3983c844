"""Writes with ``supervisorctl`` and ``supervisor-cache``."""

import json
import subprocess
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import final

from tests.e2e.soak.records import Add, Outcome
from tests.e2e.soak.writers import Caller
from tests.harness import OWN_BINARIES, START_SECONDS


class _Program(Caller):
    """Writes with a program, started anew for each write."""

    program: Path
    before: tuple[str, ...] = ()
    prefix = ""

    @property
    def _kinds(self) -> dict[str, tuple[float, Callable[[], None]]]:
        return {
            "store": (6, self._store),
            "json": (3, self._store_json),
            "ttl": (2, self._store_for_a_while),
            "increment": (2, self._increment),
            "delete": (1, self._delete),
        }

    def _run(self, verb: str, *arguments: str) -> bool:
        """Run it; answer whether it ended well. What it came to otherwise is written down."""
        command = [str(self.program), *self._options(), f"{self.prefix}{verb}", "--note", self._note, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=START_SECONDS * 2, check=False
        )
        if done.returncode:
            self.end_unclear(f"{verb} {arguments}: {done.returncode} {done.stdout} {done.stderr}")
        return not done.returncode

    @abstractmethod
    def _options(self) -> list[str]:
        """Those that say whom to ask."""

    def _store(self) -> None:
        key, value = self._own(), f"{self._number} 'a b' \"c\" \\"
        self.begin({key: value})
        if self._run("store", key, value):
            self.end(Outcome.DONE)

    def _store_json(self) -> None:
        key, value = self._own(), self._value()
        self.begin({key: value})
        if self._run("store", "--json", key, json.dumps(value)):
            self.end(Outcome.DONE)

    def _store_for_a_while(self) -> None:
        key, value = f"{self.name}/ttl/{self._dice.randrange(10)}", str(self._number)
        self.begin({key: value})
        if self._run("store", "--ttl", str(self._soon()), key, value):
            self.end(Outcome.DONE)

    def _increment(self) -> None:
        key, delta = f"counter/{self._dice.randrange(4)}", self._dice.randint(1, 5)
        self.begin({key: Add(delta)})
        if self._run("increment", key, str(delta)):
            self.end(Outcome.DONE)

    def _delete(self) -> None:
        key = self._own()
        self.begin()
        if self._run("delete", key):
            self.end(Outcome.PERHAPS)


@final
class CtlWriter(_Program):
    """``supervisorctl``."""

    program = OWN_BINARIES / "supervisorctl"
    prefix = "cache_"

    def _options(self) -> list[str]:
        return ["-c", str(self._host.supervisord.configuration)]


@final
class CommandWriter(_Program):
    """``supervisor-cache``."""

    program = OWN_BINARIES / "supervisor-cache"

    def _options(self) -> list[str]:
        return ["--url", self._host.supervisord.unix_url]
