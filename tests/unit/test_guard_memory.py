"""The guard of a server remembers what it has admitted: that alone, and not without end."""

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor_cache.server import guards
from supervisor_cache.server.guards import Policy, RequestGuard, verdict
from supervisor_cache.server.log import Log

POLICY = Policy(1000, (), frozenset({"localhost"}), ("/cache/",), open_inet=True)
USUAL = ["Host: localhost", "User-Agent: x", "Content-Length: 10"]


class Judge:
    """Judges as `verdict` does, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *args: Any) -> int | None:
        self.asked += 1
        return verdict(*args)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    judge = Judge()
    monkeypatch.setattr(guards, "verdict", judge)
    return judge


@pytest.fixture
def guard(judge: Judge) -> RequestGuard:  # noqa: ARG001 - it must stand in place before
    return RequestGuard(POLICY, Log())


def refuses(guard: RequestGuard, header: list[str], uri: str = "/RPC2", command: str = "POST") -> bool:
    request: Any = SimpleNamespace(command=command, uri=uri, header=list(header))
    return guard.match(request)


def test_what_was_admitted_is_judged_once(guard: RequestGuard, judge: Judge) -> None:
    assert [refuses(guard, USUAL) for _ in range(5)] == [False] * 5
    assert judge.asked == 1


def test_what_was_refused_is_judged_again_and_refused_again(guard: RequestGuard, judge: Judge) -> None:
    header = [*USUAL[:2], "Content-Length: 1001"]
    assert [refuses(guard, header) for _ in range(3)] == [True] * 3
    assert judge.asked == 3


@pytest.mark.parametrize(
    ("command", "uri", "header"),
    [
        ("GET", "/RPC2", USUAL),
        ("POST", "/cache/", USUAL),
        ("POST", "/RPC2", USUAL[::-1]),
        ("POST", "/RPC2", [*USUAL, ""]),
        ("POST", "/RPC2", ["\n".join(USUAL)]),
        ("POST", "/RPC2", [*USUAL[:2], "Content-Length: 11"]),
        ("POST", "/RPC2\nHost: localhost", USUAL[1:]),
        ("POST\n/RPC2", "Host: localhost", USUAL[1:]),
    ],
    ids=repr,
)
def test_what_differs_in_anything_is_judged_for_itself(
    guard: RequestGuard, judge: Judge, command: str, uri: str, header: list[str]
) -> None:
    refuses(guard, USUAL)
    refuses(guard, header, uri, command)
    assert judge.asked == 2


@pytest.mark.parametrize(
    "header",
    [
        ["Content-Length: 100000"],
        ["Transfer-Encoding: chunked"],
        ["Sec-Fetch-Site: cross-site"],
        ["Host: evil.example", "Origin: http://evil.example"],
    ],
    ids=str,
)
def test_a_line_end_in_a_path_does_not_make_another_request_admitted(guard: RequestGuard, header: list[str]) -> None:
    # Supervisor decodes %0A, so a path can go on as the header of another request does.
    assert refuses(guard, [], "\n".join(["/x", *header])) is False
    assert refuses(guard, [], "/x", "\n".join(["POST", *header])) is False
    assert refuses(guard, header, "/x") is True


def test_a_hostile_path_is_never_admitted_for_the_header_that_it_imitates(guard: RequestGuard) -> None:
    assert refuses(guard, USUAL, "/cache/") is False
    assert refuses(guard, USUAL[1:], "/cache/\nHost: localhost") is True


def test_a_request_is_refused_whose_header_was_admitted_for_another_path(guard: RequestGuard) -> None:
    header = ["Host: evil.example", "Content-Length: 10"]
    assert refuses(guard, header, "/RPC2") is False
    assert refuses(guard, header, "/cache/") is True
    assert refuses(guard, ["Host: evil.example", "Content-Length: 0"], "/x") is False
    assert refuses(guard, ["Host: evil.example", "Content-Length: 0"], "/RPC2") is True


def test_what_is_remembered_is_bounded(guard: RequestGuard) -> None:
    most = 0
    for number in range(1000):
        assert refuses(guard, [*USUAL, f"X-Number: {number}"]) is False
        most = max(most, len(guard._admitted))
    assert 1 < most <= 256
    assert all(sum(map(len, asked)) <= 1024 for asked in guard._admitted)


def test_after_many_others_it_still_remembers(guard: RequestGuard, judge: Judge) -> None:
    for number in range(1000):
        refuses(guard, [*USUAL, f"X-Number: {number}"])
    before = judge.asked
    assert [refuses(guard, USUAL) for _ in range(2)] == [False, False]
    assert judge.asked == before + 1


def test_what_is_long_is_not_remembered(guard: RequestGuard, judge: Judge) -> None:
    for _ in range(2):
        assert refuses(guard, [*USUAL, "X-Long: " + "x" * 1024]) is False
        assert refuses(guard, USUAL, "/" + "x" * 1024) is False
    assert judge.asked == 4
    assert not guard._admitted
