"""A Prometheus that scrapes and alerts as docs/uses/dashboard.md says."""

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import StartSupervisord, missing
from tests.examples import ROOT, blocks
from tests.harness import PASSWORD, START_SECONDS, USER, Supervisord, free_port, until

PAGE = ROOT / "docs" / "uses" / "dashboard.md"
OFTEN = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
STORAGE_ALERT, ENTRIES_ALERT = "storage", "entries"


def alerts() -> dict[str, str]:
    """Answer the expressions of the page, by what they are about."""
    (told,) = re.findall(r"^Worth an alert: (.*?)\n\n", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    storage, entries = re.findall(r"`([^`]+)`", told)
    return {STORAGE_ALERT: storage, ENTRIES_ALERT: entries}


class Prometheus:
    """One that listens at ``port``."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as response:
            return json.load(response)["data"]

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=10) as response:
            return bool(response.status == 200)
        return False

    def targets(self) -> list[tuple[str, str]]:
        return [(target["health"], target["lastError"]) for target in self.ask("/api/v1/targets")["activeTargets"]]

    def firing(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.ask("/api/v1/alerts")["alerts"]}

    def value(self, expression: str) -> float:
        (found,) = self.ask("/api/v1/query", query=expression)["result"]
        return float(found["value"][1])


@contextlib.contextmanager
def prometheus(folder: Path, supervisord: Supervisord) -> Iterator[Prometheus]:
    """Run Prometheus with the configuration of the page, for ``supervisord``."""
    for needed in ("prometheus", "promtool"):
        if shutil.which(needed) is None:
            missing(needed)
    (block,) = (found.code for found in blocks(PAGE) if found.language == "yaml")
    told = yaml.safe_load(block)
    (job,) = told["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["localhost:9001"]}]
    assert job["basic_auth"]["username"] == "dashboard"
    # What is this test's: where all is, who asks, and how often.
    job["static_configs"] = [{"targets": [f"localhost:{supervisord.port}"]}]
    job["basic_auth"] = {**job["basic_auth"], "username": USER, "password_file": str(folder / "password")}
    (folder / "password").write_text(f"{PASSWORD}\n")
    rules = [{"alert": name, "expr": expression} for name, expression in alerts().items()]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "page", "rules": rules}]}))
    configuration = {"global": OFTEN, "rule_files": [str(folder / "rules.yml")], **told}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    checking = ["promtool", "check", "config", str(folder / "prometheus.yml")]
    checked = subprocess.run(checking, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr

    port = free_port()
    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        one = Prometheus(port)
        until(lambda: one.is_ready() or process.poll() is not None, "Prometheus is ready")
        assert process.poll() is None, (folder / "output").read_text()
        yield one
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def set_version(database: Path, version: int) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


@pytest.mark.local("the storage of this test is a database")
def test_it_scrapes_and_alerts_as_the_page_says(start: StartSupervisord, tmp_path: Path) -> None:
    options = {"http": "true", "metrics_prefix": "metrics/", "max_entries": "10", "storage": "sqlite:cache.db"}
    protection = {"confine": "inet_http_server", "read_only": "inet_http_server"}
    supervisord = start({"cache": {**options, **protection}})
    database = supervisord.folder / "cache.db"
    supervisord.stop()
    with closing(sqlite3.connect(database)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    set_version(database, 99)
    supervisord.start()

    with prometheus(tmp_path, supervisord) as one:
        until(lambda: one.targets() == [("up", "")], "supervisord is scraped")
        until(lambda: one.firing() == {STORAGE_ALERT}, "a storage that cannot be read is told")
        set_version(database, version)
        until(lambda: one.firing() == set(), "the storage is all right again")

        cache = supervisord.unix().cache
        cache.increment("metrics/deploys", 3)
        cache.storeMany({f"k{number}": number for number in range(8)})
        deploys = 'supervisor_cache_entry{namespace="cache",key="metrics/deploys"}'
        until(lambda: one.ask("/api/v1/query", query=deploys)["result"], "what stands below the prefix is there")
        until(lambda: one.value("supervisor_cache_entries") == 9, "its entries are counted")
        assert one.value(deploys) == 3
        assert one.firing() == set()
        cache.store("one more", 1)
        until(lambda: one.firing() == {ENTRIES_ALERT}, "a cache that is nearly full is told")
        assert one.targets() == [("up", "")]
