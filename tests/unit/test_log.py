"""A repeated problem is logged at most once a minute, and how often it came is not lost."""

from pathlib import Path

from supervisor_cache.engines.sqlite import SqliteEngine
from supervisor_cache.server.log import Log, contain
from supervisor_cache.server.settings import Settings
from supervisor_cache.server.storage import Storage
from tests.model import Bench


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def critical(self, line: str) -> None:
        self.lines.append(line)

    warn = info = critical


class Minutes:
    now = 0.0

    def __call__(self) -> float:
        return self.now * 60


def broken() -> int:
    raise ValueError("\ud800")


def test_a_repeated_failure_is_logged_once_a_minute_with_its_number() -> None:
    lines, minutes = Lines(), Minutes()
    log = Log(minutes)
    log.use(lines)  # type: ignore[arg-type]
    for _ in range(5):
        assert contain(log, "a callback", 7, broken) == 7
    assert contain(log, "another", 7, broken) == 7
    assert len(lines.lines) == 2
    assert lines.lines[0].startswith("supervisor_cache: internal error in a callback, contained; supervisord goes on\n")
    assert "ValueError: \\ud800" in lines.lines[0]
    log.report_repeats()
    assert len(lines.lines) == 2
    minutes.now = 1.0
    log.report_repeats()
    assert lines.lines[2:] == ["supervisor_cache: internal error in a callback: 4 times more in the last minute"]
    contain(log, "a callback", 7, broken)
    assert len(lines.lines) == 4


def test_without_a_logger_nothing_is_said() -> None:
    log = Log()
    log.info("a")
    log.warning("b")
    assert contain(log, "c", 7, broken) == 7


def test_a_large_log_of_the_database_counts_when_it_is_looked_at_and_not_in_each_round(tmp_path: Path) -> None:
    lines, minutes, bench = Lines(), Minutes(), Bench()
    log = Log(minutes)
    log.use(lines)  # type: ignore[arg-type]
    storage = Storage("cache", bench.cache, bench.clock, log, lambda: None, lambda: None)
    storage.use(Settings(database=str(tmp_path / "cache.db")))
    storage.open()
    engine = bench.cache.engine
    assert isinstance(engine, SqliteEngine)
    storage.tick()  # looks at it; not again as long as this clock stands still
    for size in (20_000_000, 30_000_000, 40_000_000):
        engine.log_bytes = size
        for _ in range(1000):
            storage.tick()
    minutes.now = 1.0
    log.report_repeats()
    storage.close()
    assert [line for line in lines.lines if "log" in line] == [
        "supervisor_cache: cache: its log has 20000000 bytes: very many writes, or a reader in a transaction",
        "supervisor_cache: cache: log of the database: 2 times more in the last minute",
    ]
