"""What a client learns from system.listMethods, system.methodHelp and system.methodSignature is true."""

import inspect
import re
from typing import Any

import pytest
from supervisor.xmlrpc import gettags

from supervisor_cache.server.rpc import CacheNamespaceRPCInterface
from tests.harness import Supervisord

# Section 4 of the contract.
METHODS = {
    "getAPIVersion",
    "getKeys",
    "getCount",
    "fetch",
    "fetchMany",
    "getItems",
    "getEntry",
    "getEntries",
    "getRevision",
    "getChanges",
    "wait",
    "getStats",
    "store",
    "storeMany",
    "add",
    "storeIf",
    "increment",
    "touch",
    "touchIf",
    "delete",
    "deleteIf",
    "deleteMany",
    "deletePrefix",
    "clear",
}
TYPES = {"string", "int", "boolean", "double", "array", "struct", "any"}
OPTIONAL = {"prefix", "after", "limit", "delta", "options"}


def parameters(method: str) -> list[inspect.Parameter]:
    signature = inspect.signature(getattr(CacheNamespaceRPCInterface, method))
    return list(signature.parameters.values())[1:]


@pytest.fixture(scope="module")
def system(shared: Supervisord) -> Any:
    return shared.unix().system


def test_the_methods_are_those_of_the_contract(system: Any) -> None:
    ours = {name for name in system.listMethods() if name.startswith("cache.")}
    assert ours == {f"cache.{method}" for method in METHODS}


def test_supervisor_lists_its_own_methods_too(system: Any) -> None:
    assert {"supervisor.getIdentification", "system.multicall"} <= set(system.listMethods())


def test_both_servers_list_the_same_methods(shared: Supervisord) -> None:
    assert shared.unix().system.listMethods() == shared.inet().system.listMethods()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_method_describes_itself(system: Any, method: str) -> None:
    text = system.methodHelp(f"cache.{method}")
    assert text.isascii()
    summary = text.strip().splitlines()[0]
    assert re.fullmatch("(Return|Store|Add|Delete) .{10,}", summary)
    tags = gettags(text)[1:]
    assert [tag for _, tag, _, _, _ in tags] == ["param"] * len(parameters(method)) + ["return"]
    for _, tag, datatype, name, description in tags:
        assert datatype in TYPES
        # A return has no name, so its text starts there.
        assert description if tag == "param" else name


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_parameters_are_described_in_their_order(system: Any, method: str) -> None:
    described = [name for _, tag, _, name, _ in gettags(system.methodHelp(f"cache.{method}")) if tag == "param"]
    assert described == [parameter.name for parameter in parameters(method)]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_signature_has_a_return_type_and_one_type_for_each_parameter(system: Any, method: str) -> None:
    returned, *taken = system.methodSignature(f"cache.{method}")
    tags = gettags(system.methodHelp(f"cache.{method}"))
    assert returned == next(datatype for _, tag, datatype, _, _ in tags if tag == "return")
    assert taken == [datatype for _, tag, datatype, _, _ in tags if tag == "param"]
    assert len(taken) == len(parameters(method))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_may_be_left_out_can_be_given_as_none_of_it(method: str) -> None:
    optional = [parameter for parameter in parameters(method) if parameter.default is not inspect.Parameter.empty]
    # deletePrefix without its prefix would be clear.
    named = OPTIONAL - ({"prefix"} if method == "deletePrefix" else set())
    assert {parameter.name for parameter in optional} == named & {each.name for each in parameters(method)}
    assert parameters(method)[len(parameters(method)) - len(optional) :] == optional
    assert all(parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for parameter in parameters(method))
    nothing = {"prefix": "", "after": "", "limit": 0, "delta": 1, "options": ""}
    assert {parameter.name: parameter.default for parameter in optional} == {
        parameter.name: nothing[parameter.name] for parameter in optional
    }


NEWEST = object()
RETURNS: dict[str, tuple[type, list[Any]]] = {
    "getAPIVersion": (str, []),
    "getKeys": (list, []),
    "getCount": (int, []),
    "fetch": (str, ["k"]),
    "fetchMany": (dict, [["k"]]),
    "getItems": (dict, []),
    "getEntry": (dict, ["k"]),
    "getEntries": (list, []),
    "getRevision": (str, []),
    "getChanges": (list, [NEWEST]),
    "wait": (dict, [NEWEST, 0]),
    "getStats": (dict, []),
    "store": (bool, ["k", 1]),
    "storeMany": (str, [{"k": 1}]),
    "add": (str, ["k", 1]),
    "storeIf": (str, ["k", 1, ""]),
    "increment": (int, ["n"]),
    "touch": (str, ["k", 60]),
    "touchIf": (str, ["k", 60, NEWEST]),
    "delete": (bool, ["k"]),
    "deleteIf": (bool, ["k", ""]),
    "deleteMany": (int, [["k"]]),
    "deletePrefix": (int, ["k"]),
    "clear": (bool, []),
}
PYTHON_TYPES = {"string": str, "int": int, "boolean": bool, "array": list, "struct": dict}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_type_that_is_returned_is_the_one_described(system: Any, cache: Any, method: str) -> None:
    cache.store("k", "v")
    expected, arguments = RETURNS[method]
    newest = cache.getRevision()
    answer = getattr(cache, method)(*(newest if each is NEWEST else each for each in arguments))
    assert type(answer) is expected
    described = system.methodSignature(f"cache.{method}")[0]
    assert described == "any" or PYTHON_TYPES[described] is expected


def test_the_version_is_that_of_the_interface(cache: Any) -> None:
    assert cache.getAPIVersion() == "2.0"
