"""The description of the JSON interface is valid, and true of a real supervisord."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.e2e.raw import Server, request
from tests.e2e.web import Web
from tests.harness import Supervisord, running

HTTP = {"http": "true"}
# Of each operation.
EXAMPLES = 12
MODES = [GenerationMode.POSITIVE]
if os.environ.get("OPENAPI_NEGATIVE"):
    MODES.append(GenerationMode.NEGATIVE)  # to make what does not fit takes schemathesis a minute or more
CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervisord]:
    with running({"cache": HTTP, "other-one": HTTP}, login=False) as found:
        yield found
        assert "Traceback" not in found.log


@pytest.fixture(scope="module")
def description(supervisord: Supervisord) -> Any:
    return Web(Server(supervisord, inet=True)).json("v1/openapi.json")


def test_the_description_is_valid(description: Any) -> None:
    OpenAPIV31SpecValidator(description).validate()
    assert description["openapi"] == "3.1.0"


def test_each_namespace_describes_itself(supervisord: Supervisord, description: Any) -> None:
    other = Web(Server(supervisord, inet=False), "other-one").json("v1/openapi.json")
    (server,) = other["servers"]
    # Also where a proxy has it below a path of its own.
    for path in ("", "/markers"):
        assert urljoin(f"http://host{path}/other-one/v1/openapi.json", server["url"]) == f"http://host{path}/other-one"
    assert {**other, "servers": [], "info": {}} == {**description, "servers": [], "info": {}}


def test_what_is_described_is_there_and_what_is_there_is_described(supervisord: Supervisord, description: Any) -> None:
    web = Web(Server(supervisord, inet=True))
    for path, operations in description["paths"].items():
        allowed = web.ask("OPTIONS", path[1:].replace("{key}", "k")).headers["allow"].lower().split(", ")
        assert set(operations) == set(allowed) - {"head", "options"}
    names = [
        operation["operationId"] for operations in description["paths"].values() for operation in operations.values()
    ]
    assert len(set(names)) == len(names)


def test_each_schema_of_a_change_and_an_entry_is_that_of_the_stream(supervisord: Supervisord, description: Any) -> None:
    web = Web(Server(supervisord, inet=True))
    schemas = description["components"]["schemas"]
    with web.stream().opened() as stream:
        web.put("/k", "v")
        web.delete("/k")
        events = stream.events(2)
    for event in events:
        (change,) = event.data
        assert set(change) == set(schemas["Event"]["required"]) == set(schemas["Event"]["properties"])
    assert set(events[0].data[0]["entry"]) == set(schemas["Entry"]["properties"])


BEFORE_ANYBODY_LOOKS = [
    (400, ["Content-Length: x"], None),
    (403, ["Sec-Fetch-Site: cross-site"], None),
    (411, ["Transfer-Encoding: chunked"], None),
    (413, ["Content-Type: application/json"], b"x" * (2**20 + 1)),
    (421, ["Host: elsewhere.example"], None),
]


@pytest.mark.parametrize(
    ("status", "lines", "body"), BEFORE_ANYBODY_LOOKS, ids=[one[0] for one in BEFORE_ANYBODY_LOOKS]
)
def test_what_is_refused_at_the_door_is_described_for_each_operation(
    supervisord: Supervisord, description: Any, status: int, lines: list[str], body: bytes | None
) -> None:
    server = Server(supervisord, inet=True)
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            if status == 403 and method == "get":
                assert "403" not in operation["responses"]  # reading is not refused
                continue
            head = lines if status == 421 else [f"Host: {server.host}", *lines]
            if body is not None:
                head = [*head, f"Content-Length: {len(body)}"]
            with server.connect() as connection:
                connection.send(request(method.upper(), f"/cache{path.replace('{key}', 'k')}", head, body or b""))
                reply = connection.reply()
            assert reply is not None
            assert reply.status == status
            assert reply.headers["content-type"] in operation["responses"][str(status)]["content"]


def test_a_login_that_is_missing_is_described(description: Any) -> None:
    with running({"cache": HTTP}, login=True) as locked:
        for path in description["paths"]:
            server = Server(locked, inet=True)
            with server.connect() as connection:
                connection.send(request("GET", f"/cache{path}", [f"Host: {server.host}"]))
                reply = connection.reply()
            assert reply is not None
            assert reply.status == 401
            for operation in description["paths"][path].values():
                assert reply.headers["content-type"] in operation["responses"]["401"]["content"]
    assert description["components"]["securitySchemes"]["login"] == {"type": "http", "scheme": "basic"}
    # And works without, where there is none.
    assert description["security"] == [{}, {"login": []}]


def operations(description: Any) -> Iterator[Any]:
    # A stream does not end.
    schema = schemathesis.openapi.from_dict(description).exclude(path="/v1/stream")
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        yield found.ok()


@pytest.mark.parametrize("mode", MODES)
def test_whatever_is_asked_is_answered_as_described(
    supervisord: Supervisord, description: Any, mode: GenerationMode
) -> None:
    def ask(case: Any) -> None:
        if "wait" in (case.query or {}):
            # It would be waited for.
            case.query = {**case.query, "wait": 0}
        response = case.call(base_url=f"http://127.0.0.1:{supervisord.port}/cache")
        case.validate_response(response, checks=CHECKED)

    asked = 0
    for operation in operations(description):
        limits = settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        # An operation that takes nothing cannot be asked wrongly.
        with contextlib.suppress(Unsatisfiable):
            limits(given(operation.as_strategy(generation_mode=mode))(ask))()  # type: ignore[no-untyped-call]
            asked += 1
    assert asked >= 10
