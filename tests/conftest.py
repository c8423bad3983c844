"""Fixtures for all tests."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.database import assert_integrity, assert_serves, databases
from tests.harness import STORAGE, Supervisord

# Who starts the tests in the background, or by nohup, has these ignored, and their processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _ignored in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_ignored, signal.SIG_DFL)

StartSupervisord = Callable[..., Supervisord]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what etcd sets otherwise, where it is what is tested."""
    for item in items:
        marker = item.get_closest_marker("local")
        if STORAGE == "etcd" and marker is not None:
            item.add_marker(pytest.mark.skip(reason=f"etcd sets it otherwise: {marker.args[0]}"))


@pytest.fixture
def make_supervisord(request: pytest.FixtureRequest) -> Iterator[StartSupervisord]:
    """Make supervisords that end with the test, whose logs must have no traceback that the test does not expect."""
    made: list[Supervisord] = []

    def make(*args: Any, **kwargs: Any) -> Supervisord:
        supervisord = Supervisord(*args, **kwargs)
        made.append(supervisord)
        return supervisord

    with contextlib.ExitStack() as folders, contextlib.ExitStack() as processes:
        yield make
        for supervisord in made:
            folders.callback(supervisord.close)  # when all have ended: one may use what is in another one's folder
            processes.callback(supervisord.stop)
        logs = [supervisord.log for supervisord in made]
        # Each database that was used agrees with memory, whatever the test was about.
        for supervisord in made:
            used = databases(supervisord)
            for name, path in used.items():
                assert_serves(path, getattr(supervisord.unix(), name))
            supervisord.stop()
            for path in used.values():
                assert_integrity(path)
    if request.node.get_closest_marker("tracebacks") is None:
        for log in logs:
            assert "Traceback" not in log


@pytest.fixture
def start(make_supervisord: StartSupervisord) -> StartSupervisord:
    """Make supervisords that run already."""

    def start(*args: Any, **kwargs: Any) -> Supervisord:
        return make_supervisord(*args, **kwargs).start()

    return start


@pytest.fixture(scope="module")
def shared() -> Iterator[Supervisord]:
    """One supervisord for the tests of a module that leave nothing behind but entries, which each of them clears."""
    supervisord = Supervisord().start()
    yield supervisord
    log = supervisord.log
    supervisord.close()
    assert "Traceback" not in log


@pytest.fixture
def cache(shared: Supervisord) -> Any:
    """The namespace ``cache`` of the shared supervisord, empty, over its unix socket."""
    proxy = shared.unix().cache
    proxy.clear()
    return proxy


def missing(what: str) -> None:
    """Skip a test for want of ``what``; where CI runs, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is missing")
