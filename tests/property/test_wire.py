"""Through Supervisor's own parser and marshaller: what is stored comes back as it was, and all else is refused."""

import base64
import datetime as dt
import json
import math
import re
import xmlrpc.client
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeAlias
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from supervisor.http import NOT_DONE_YET
from supervisor.xmlrpc import RPCError, supervisor_xmlrpc_handler, traverse, xmlrpc_marshal

from supervisor_cache.core.codec import from_json, pack, to_ascii_json, to_json, unpack
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.text import xml_text_size
from supervisor_cache.core.values import DATETIME_NAME, MAX_DEPTH, MAX_INT, MEMBER_MARKUP, MIN_INT, Value, reply_size
from supervisor_cache.errors import InvalidArgumentsError
from supervisor_cache.server.backlog import Backlog
from supervisor_cache.server.log import Log
from supervisor_cache.server.namespace import Namespace
from supervisor_cache.server.rpc import CacheNamespaceRPCInterface
from supervisor_cache.server.settings import Settings
from tests.model import json_size

INCORRECT_PARAMETERS, BAD_ARGUMENTS, BAD_NAME, LIMIT_EXCEEDED, WRONG_TYPE, HISTORY_GONE = 2, 3, 10, 201, 202, 203
REFUSALS = {BAD_ARGUMENTS, BAD_NAME, LIMIT_EXCEEDED}
MAX_KEY_BYTES = 24

Xml: TypeAlias = str

many = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
some = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])


class FakeHost:
    def shutting_down(self) -> bool:
        return False

    def identification(self) -> str:
        return "test"

    def wake_deferred(self) -> None:
        raise AssertionError("memory answers at once")

    def hold_deferred(self) -> None:
        raise AssertionError("likewise")


class ParserRefusesError(Exception):
    """Supervisor answers 400, and the method is never called."""


class Wire:
    """Our methods behind Supervisor's parser, dispatch and marshaller, without the sockets."""

    def __init__(self, limits: Limits | None = None) -> None:
        log = Log()
        self.namespace = Namespace("cache", Settings(limits=limits or Limits()), log, Backlog(log))
        interface = CacheNamespaceRPCInterface(self.namespace, "unix_http_server", FakeHost(), log)
        self._handler = supervisor_xmlrpc_handler(None, [("cache", interface)])

    def parse(self, *values: Xml) -> tuple[Any, ...]:
        params = "".join(f"<param>{value}</param>" for value in values)
        body = f"<methodCall><methodName>cache.any</methodName><params>{params}</params></methodCall>"
        try:
            found, _ = self._handler.loads(body)
        except Exception as error:
            raise ParserRefusesError from error
        assert found is not None
        return found

    def call(self, method: str, *params: Any) -> Any:
        """Answer what a client reads; raises `xmlrpc.client.Fault` as it does."""
        try:
            value = traverse(self._handler.rpcinterface, f"cache.{method}", params)
            if isinstance(value, FunctionType):
                value = value()
                if value is NOT_DONE_YET:
                    return "it would wait"
        except RPCError as error:
            value = xmlrpc.client.Fault(error.code, error.text)
        reply = xmlrpc_marshal(value).encode()
        (answer,), _ = xmlrpc.client.loads(reply, use_builtin_types=True)
        return answer

    def attempt(self, method: str, *params: Any) -> Any:
        """Like `call`, but answer the fault."""
        try:
            return self.call(method, *params)
        except xmlrpc.client.Fault as fault:
            return fault

    def state(self) -> object:
        cache = self.namespace.cache
        entries = [(key, entry.revision, id(entry)) for key, entry in cache.entries()]
        return entries, cache.revision, cache.size


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types throughout; -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(item, other[name]) for name, item in one.items())
    return repr(one) == repr(other)


# Values as Python has them

datetimes = st.datetimes().map(lambda moment: moment.replace(microsecond=0, fold=0)) | st.sampled_from(
    [dt.datetime(1, 1, 1), dt.datetime(999, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)]  # noqa: DTZ001
)
# The characters of XML 1.0, but for CR.
characters = st.characters(
    exclude_categories=["Cs"], exclude_characters=[chr(code) for code in range(32) if code not in {9, 10}]
).filter(lambda character: character not in "\ufffe\uffff")
texts = st.text(characters)
integers = st.integers(MIN_INT, MAX_INT) | st.sampled_from([MIN_INT, MAX_INT, 0])
doubles = st.floats(allow_nan=False, allow_infinity=False)
leaves: st.SearchStrategy[Any] = texts | st.booleans() | integers | doubles | datetimes
values: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda items: (
        st.lists(items, max_size=5)
        | st.dictionaries(texts, items, max_size=5).filter(lambda struct: list(struct) != [DATETIME_NAME])
    ),
    max_leaves=15,
)


# Values as raw XML, of all that Supervisor's parser knows, and more

_anything = st.characters(exclude_categories=["Cs"])
_awkward = st.sampled_from(
    list("\t\n\r\x00\x1b\x7f\x85\xa0\u2028\ud7ff\ue000\ufffd\ufffe\uffff\U0001ffff\U0010ffff&<>]")
)


def _written(character: str, how: str) -> Xml:
    if how == "decimal":
        return f"&#{ord(character)};"
    if how == "hexadecimal":
        return f"&#x{ord(character):X};"
    if how == "section" and character != "]":
        return f"<![CDATA[{character}]]>"
    if how == "comment":
        return f"{escape(character)}<!-- -->"
    return escape(character)


_pieces = st.builds(
    _written,
    st.one_of(characters, characters, characters, _awkward, _anything),
    st.sampled_from(["literal", "literal", "literal", "decimal", "hexadecimal", "section", "comment"]),
)
xml_texts = st.lists(_pieces, max_size=8).map("".join) | st.sampled_from(["", " ", "&#xD800;", "\r\n", "&#13;&#10;"])


def _element(name: str, text: st.SearchStrategy[str]) -> st.SearchStrategy[Xml]:
    return text.map(lambda inner: f"<value><{name}>{inner}</{name}></value>")


_integer_texts = st.one_of(
    integers.map(str),
    st.integers().map(str),
    st.sampled_from(["", "+5", " 7 ", "1_000", "\u0663", "2147483648", "-2147483649", "9" * 100, "9" * 4300, "0x1"]),
)
_double_texts = st.one_of(
    st.floats().map(repr),
    st.sampled_from(["nan", "-inf", "Infinity", "1e999", "-1e999", "1e-999", "-0.0", "1_0.5", "", "5", "1,5"]),
)
_datetime_texts = st.one_of(
    datetimes.map(lambda moment: moment.isoformat().replace("-", "")),
    st.sampled_from(["00010101T00:00:00", "99991231T23:59:59", "20261231T23:59:60", "100000101T00:00:00", "", "1"]),
)
_base64_texts = st.one_of(
    st.binary(max_size=12), texts.map(str.encode), st.sampled_from([b"\x00", b"\r", b"\xef\xbf\xbe", b"\xed\xa0\x80"])
).map(lambda data: base64.b64encode(data).decode())

xml_leaves: st.SearchStrategy[Xml] = st.one_of(
    _element("string", xml_texts),
    xml_texts.map(lambda text: f"<value>{text}</value>"),
    _element("int", _integer_texts),
    _element("i4", _integer_texts),
    _element("i8", _integer_texts),
    _element("boolean", st.sampled_from(["0", "1", "true", "", "2"])),
    _element("double", _double_texts),
    _element("dateTime.iso8601", _datetime_texts),
    _element("base64", _base64_texts),
    st.sampled_from(["<value/>", "<value><nil/></value>", "<value><ex:nil xmlns:ex='x'/></value>"]),
)


def _array(items: list[Xml]) -> Xml:
    return f"<value><array><data>{''.join(items)}</data></array></value>"


def _struct(members: list[tuple[Xml, Xml]]) -> Xml:
    inner = "".join(f"<member>{name}{value}</member>" for name, value in members)
    return f"<value><struct>{inner}</struct></value>"


def _deeper(value: Xml, depth: int, kind: str) -> Xml:
    for _ in range(depth):
        value = _array([value]) if kind == "array" else _struct([("<name>deeper</name>", value)])
    return value


xml_names = st.one_of(
    *[xml_texts.map(lambda text: f"<name>{text}</name>")] * 6,
    st.sampled_from(["<name/>", f"<name>{DATETIME_NAME}</name>", "<value><int>5</int></value>", "<name><nil/></name>"]),
)
_shallow: st.SearchStrategy[Xml] = st.recursive(
    xml_leaves,
    lambda items: (
        st.lists(items, max_size=4).map(_array) | st.lists(st.tuples(xml_names, items), max_size=4).map(_struct)
    ),
    max_leaves=8,
)
xml_values: st.SearchStrategy[Xml] = st.one_of(
    _shallow,
    _shallow,
    st.builds(_deeper, xml_leaves, st.integers(MAX_DEPTH - 2, 40), st.sampled_from(["array", "struct"])),
)

# Around the limit in bytes, of characters of one to four bytes each.
_long_keys = st.builds(
    lambda character, size, more: character * (size // len(character.encode())) + "x" * more,
    st.sampled_from(["a", "\u00e9", "\u20ac", "\U0001f680"]),
    st.integers(MAX_KEY_BYTES - 4, MAX_KEY_BYTES + 1),
    st.integers(0, 4),
).map(lambda text: f"<value>{text}</value>")
xml_keys = st.one_of(_element("string", xml_texts), _long_keys, xml_leaves)


# What is stored comes back


@many
@given(xml_values)
@example("<value>&#x85;&#127;&#x10FFFF;\u2028</value>")
@example("<value><double>-0.0</double></value>")
@example("<value><dateTime.iso8601>00010101T00:00:00</dateTime.iso8601></value>")
@example(_struct([("<name/>", "<value/>")]))
@example(_deeper("<value/>", MAX_DEPTH, "array"))
@example(_deeper("<value/>", MAX_DEPTH, "struct"))
def test_a_value_comes_back_from_every_read_as_it_was_parsed_or_is_refused_and_changes_nothing(xml: Xml) -> None:
    wire = Wire()
    wire.call("store", "before", 1)
    try:
        key, value = wire.parse("<value>key</value>", xml)
    except ParserRefusesError:
        return
    before = wire.state()
    answer = wire.attempt("store", key, value)
    if isinstance(answer, xmlrpc.client.Fault):
        assert answer.faultCode == BAD_ARGUMENTS
        assert answer.faultString.startswith("BAD_ARGUMENTS: value")
        assert answer.faultString.isascii()
        assert wire.state() == before
        return
    assert answer is True
    assert same(wire.call("fetch", "key"), value)
    assert same(wire.call("fetchMany", ["key", "none"]), {"key": value})
    assert same(wire.call("getItems", "k"), {"key": value})
    assert same(wire.call("getItems"), {"before": 1, "key": value})
    assert same(wire.call("getEntry", "key")["value"], value)
    assert [same(entry["value"], value) for entry in wire.call("getEntries", "", "before")] == [True]


@many
@given(values)
def test_a_value_that_the_contract_allows_is_never_refused(value: Any) -> None:
    wire = Wire()
    (sent,), _ = xmlrpc.client.loads(xmlrpc.client.dumps((value,)), use_builtin_types=True)
    assert same(sent, value)
    body = xmlrpc.client.dumps((value,)).removeprefix("<params>\n<param>\n").removesuffix("</param>\n</params>\n")
    _, parsed = wire.parse("<value>key</value>", body)
    assert same(parsed, value)
    wire.call("store", "key", parsed)
    assert same(wire.call("fetch", "key"), value)


@pytest.mark.parametrize("kind", ["array", "struct"])
def test_32_levels_are_stored_and_33_are_refused(kind: str) -> None:
    wire = Wire()
    (deepest,) = wire.parse(_deeper("<value>x</value>", MAX_DEPTH, kind))
    wire.call("store", "key", deepest)
    assert same(wire.call("fetch", "key"), deepest)
    (deeper,) = wire.parse(_deeper("<value>x</value>", MAX_DEPTH + 1, kind))
    with pytest.raises(xmlrpc.client.Fault, match="nested deeper than 32"):
        wire.call("store", "key", deeper)
    assert same(wire.call("fetch", "key"), deepest)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        ("<value><nil/></value>", "nil"),
        ("<value><int>2147483648</int></value>", "beyond 32 bits"),
        ("<value><i4>-2147483649</i4></value>", "beyond 32 bits"),
        ("<value><double>nan</double></value>", "not finite"),
        ("<value><double>1e999</double></value>", "not finite"),
        ("<value><string>a&#13;b</string></value>", r"U\+000D at position 1"),
        ("<value><base64>AA==</base64></value>", r"U\+0000 at position 0"),
        ("<value><base64>77++</base64></value>", r"U\+FFFE at position 0"),
        (_struct([(f"<name>{DATETIME_NAME}</name>", "<value>x</value>")]), "dateTime"),
        (_struct([("<value><int>5</int></value>", "<value>x</value>")]), "its name must be a string"),
        (_array(["<value/>", _struct([("<name>a</name>", "<value><nil/></value>")])]), r"value\[1\]\['a'\]: nil"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_where(xml: Xml, reason: str) -> None:
    wire = Wire()
    (value,) = wire.parse(xml)
    with pytest.raises(xmlrpc.client.Fault, match=reason) as caught:
        wire.call("store", "key", value)
    assert caught.value.faultCode == BAD_ARGUMENTS
    assert wire.call("getCount") == 0


@many
@given(xml_keys)
def test_a_key_is_found_again_under_its_name_or_refused_and_changes_nothing(xml: Xml) -> None:
    wire = Wire(Limits(max_key_bytes=MAX_KEY_BYTES))
    try:
        (key,) = wire.parse(xml)
    except ParserRefusesError:
        return
    before = wire.state()
    answer = wire.attempt("store", key, "value")
    if isinstance(answer, xmlrpc.client.Fault):
        assert answer.faultCode == BAD_NAME
        assert answer.faultString.isascii()
        assert wire.state() == before
        assert not _may_be_a_key(key)
        return
    assert _may_be_a_key(key)
    assert wire.call("getKeys") == [key]
    assert wire.call("getKeys", key) == [key]
    assert wire.call("getKeys", "", key) == []
    assert wire.call("getItems") == wire.call("fetchMany", [key, key]) == {key: "value"}
    assert wire.call("getEntry", key)["key"] == key
    assert wire.namespace.cache.size == len(key.encode()) + len('"value"')
    assert wire.call("deletePrefix", key) == 1


def _may_be_a_key(key: object) -> bool:
    """Section 3 of the contract, said in another way."""
    if not isinstance(key, str) or not 1 <= len(key.encode("utf-8", "surrogatepass")) <= MAX_KEY_BYTES:
        return False
    return not any(ord(each) < 32 or 0xD800 <= ord(each) < 0xE000 or each in "\ufffe\uffff" for each in key)


@some
@given(st.lists(st.tuples(xml_names, _shallow), max_size=5).map(_struct))
def test_several_values_are_stored_all_or_none(xml: Xml) -> None:
    wire = Wire(Limits(max_key_bytes=MAX_KEY_BYTES, max_entries=4))
    wire.call("store", "before", 1)
    try:
        (items,) = wire.parse(xml)
    except ParserRefusesError:
        return
    before = wire.state()
    answer = wire.attempt("storeMany", items)
    if isinstance(answer, xmlrpc.client.Fault):
        assert answer.faultCode in REFUSALS
        assert wire.state() == before
        return
    assert answer == (wire.call("getRevision") if items else "")
    assert same(wire.call("getItems"), {"before": 1, **items})
    assert same(wire.call("fetchMany", list(items)), items)


@pytest.mark.parametrize("character", ["x", "\u00e9", "\u20ac", "\U0001f680", "&", '"', "\n"])
def test_a_value_may_have_64_kilobytes_as_json_and_not_a_byte_more(character: str) -> None:
    wire = Wire()
    room = Limits().max_value_bytes - 2
    each = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    value = character * (room // each) + "x" * (room % each)
    wire.call("store", "key", value)
    assert wire.call("fetch", "key") == value
    before = wire.state()
    with pytest.raises(xmlrpc.client.Fault, match="65537 bytes as JSON; max_value_bytes is 65536") as caught:
        wire.call("store", "key", value + "x")
    assert caught.value.faultCode == LIMIT_EXCEEDED
    assert wire.state() == before


@pytest.mark.parametrize("limits", [Limits(max_entries=1), Limits(max_total_bytes=20)])
def test_a_full_cache_refuses_and_changes_nothing(limits: Limits) -> None:
    wire = Wire(limits)
    wire.call("store", "key", "x" * 15)
    before = wire.state()
    for refused in (("store", "more", "x"), ("add", "more", "x"), ("storeMany", {"more": "x"}), ("increment", "more")):
        with pytest.raises(xmlrpc.client.Fault, match="LIMIT_EXCEEDED") as caught:
            wire.call(*refused)
        assert caught.value.faultCode == LIMIT_EXCEEDED
    assert wire.state() == before


METHODS = sorted(
    name for name, member in vars(CacheNamespaceRPCInterface).items() if callable(member) and name[0] != "_"
)


@many
@given(st.sampled_from(METHODS), st.lists(xml_values | xml_keys, max_size=5))
def test_any_method_with_any_arguments_answers_what_a_client_can_read(method: str, arguments: list[Xml]) -> None:
    wire = Wire()
    wire.call("storeMany", {"key": 1, "\u00e9": ["text"]})
    try:
        params = wire.parse(*arguments)
    except ParserRefusesError:
        return
    before = wire.state()
    answer = wire.attempt(method, *params)
    if isinstance(answer, xmlrpc.client.Fault):
        assert answer.faultCode in {INCORRECT_PARAMETERS, WRONG_TYPE, HISTORY_GONE, *REFUSALS}
        assert wire.state() == before


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("depth", [40, 5000])
def test_any_method_refuses_a_deep_argument_wherever_it_stands(method: str, depth: int) -> None:
    wire = Wire()
    (deep,) = wire.parse(_deeper("<value/>", depth, "array"))
    for params in ([deep], ["key", deep], ["key", "", deep], ["key", "", "", deep], [[deep]], [{"key": deep}]):
        answer = wire.attempt(method, *params)
        assert isinstance(answer, xmlrpc.client.Fault)
        assert answer.faultCode in {INCORRECT_PARAMETERS, *REFUSALS}
    assert wire.call("getCount") == 0


# Sizes


def _marshalled(value: Any) -> int:
    return len(xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode())


_AROUND = _marshalled("") - len("<value><string></string></value>\n")


@many
@given(values)
@example(dt.datetime(1, 1, 1))  # noqa: DTZ001
def test_the_size_of_a_value_in_a_reply_is_known_to_the_byte(value: Any) -> None:
    assert reply_size(value) == _marshalled(value) - _AROUND


@some
@given(st.dictionaries(texts, values, max_size=5))
def test_the_size_of_members_in_a_reply_is_known_to_the_byte(struct: dict[str, Any]) -> None:
    members = sum(MEMBER_MARKUP + xml_text_size(name) + reply_size(value) for name, value in struct.items())
    assert members == _marshalled(struct) - _marshalled({})


@many
@given(values)
@example('"&<>\\')
def test_a_value_is_kept_as_it_is_with_its_sizes(value: Any) -> None:
    packed, *sizes = pack(value)
    assert repr(unpack(packed)) == repr(value)
    assert sizes == [json_size(value), reply_size(value)]


@many
@given(texts)
def test_the_size_of_text_in_a_reply_is_known_to_the_byte(text: str) -> None:
    assert xml_text_size(text) == len(xmlrpc.client.escape(text).encode())


@some
@given(st.text(characters.filter(lambda character: character not in "\t\n"), min_size=1, max_size=20), values, texts)
def test_the_sizes_that_paging_goes_by_are_at_least_those_of_the_reply(key: str, value: Any, note: str) -> None:
    wire = Wire()
    note = "".join(note.split())
    wire.call("store", key, value, {"note": note})
    _, entry = wire.namespace.cache.entries()[0]
    struct = wire.call("getEntry", key)
    assert entry.reply_size == _marshalled({key: value}) - _marshalled({})
    assert entry.reply_size + xml_text_size(note) + 700 >= _marshalled([struct]) - _marshalled([])
    assert wire.namespace.cache.size == len(key.encode()) + json_size(value) + len(note.encode())


# JSON


@many
@given(values)
def test_a_value_survives_being_json(value: Any) -> None:
    assert same(from_json(to_json(value)), value)
    assert same(from_json(to_ascii_json(value)), value)
    assert to_ascii_json(value).isascii()
    assert json_size(value) == len(to_json(value).encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.0", 1.0),
        ("1e3", 1000.0),
        ("-0.0", -0.0),
        ("-0", 0),
        ("2147483647", MAX_INT),
        ("-2147483648", MIN_INT),
        ("5e-324", 5e-324),
        ("1e-999", 0.0),
        (' \n"" ', ""),
        ('"\\ud83d\\ude80"', "\U0001f680"),
        ('{"":[]}', {"": []}),
        ('{"$dateTime":"2026-11-03T12:00:00"}', dt.datetime(2026, 11, 3, 12)),  # noqa: DTZ001
        ('{"$dateTime":"0001-01-01T00:00:00"}', dt.datetime(1, 1, 1)),  # noqa: DTZ001
        ('{"$dateTime":5,"more":1}', {DATETIME_NAME: 5, "more": 1}),
    ],
)
def test_json_is_read_as_the_contract_says(text: str, value: Value) -> None:
    assert same(from_json(text), value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "[1,null]",
        '{"a":1,"a":1}',
        '{"a":1,"\\u0061":2}',
        '[{"a":{"b":1,"b":2}}]',
        "NaN",
        "Infinity",
        "-Infinity",
        "[NaN]",
        "1e999",
        "-1e999",
        "2147483648",
        "-2147483649",
        "9" * 5000,
        "-" + "9" * 5000,
        "01",
        "+1",
        "1.",
        ".5",
        "0x1",
        "True",
        "'a'",
        "[1,]",
        "[1] 2",
        "\ufeff1",
        '"\x00"',
        '"\n"',
        '"\\u0000"',
        '"\\r"',
        '"\\ud800"',
        '"\\ufffe"',
        '{"\\ud800":1}',
        '{"\\r":1}',
        '{"$dateTime":5}',
        '{"$dateTime":null}',
        '{"$dateTime":["2026-11-03T12:00:00"]}',
        '{"$dateTime":{"$dateTime":"2026-11-03T12:00:00"}}',
        '{"$dateTime":"2026-11-03"}',
        '{"$dateTime":"2026-11-03T12:00"}',
        '{"$dateTime":"2026-1-3T1:2:3"}',
        '{"$dateTime":"2026-11-03 12:00:00"}',
        '{"$dateTime":"2026-11-03T12:00:00Z"}',
        '{"$dateTime":"2026-11-03T12:00:00.5"}',
        '{"$dateTime":"2026-11-03T12:00:60"}',
        '{"$dateTime":"2026-02-30T12:00:00"}',
        '{"$dateTime":"20261103T12:00:00"}',
        '{"$dateTime":"0000-01-01T00:00:00"}',
        '{"$dateTime":"\u0662026-11-03T12:00:00"}',
        '{"$dateTime":"x","$dateTime":"2026-11-03T12:00:00"}',
        "[" * 33 + "]" * 33,
        '{"a":' * 33 + "1" + "}" * 33,
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
        '{"$dateTime":' + "[" * 900 + "]" * 900 + "}",
    ],
    ids=lambda text: re.sub(r"[^\w$]+", " ", ascii(text[:40])),
)
def test_json_that_cannot_be_stored_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=r"^value") as caught:
        from_json(text)
    assert caught.value.fault_string.isascii()


def _check_that_it_is_read_or_refused(text: str) -> None:
    try:
        value = from_json(text)
    except InvalidArgumentsError as error:
        refusal = error.fault_string
        value = ""
    else:
        refusal = ""
    assert refusal.isascii()
    if not refusal:
        assert reply_size(value) > 0
        assert same(from_json(to_json(value)), value)


@many
@given(st.text() | st.text('[]{}:,"0123456789.eE+-tfnNaI$ \\u'))
def test_any_text_is_read_as_json_or_refused(text: str) -> None:
    _check_that_it_is_read_or_refused(text)


_python_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda items: st.lists(items, max_size=4) | st.dictionaries(st.text() | st.just(DATETIME_NAME), items, max_size=4),
    max_leaves=12,
)
_edits: list[Callable[[str, int, str], str]] = [
    lambda text, at, _: text[:at] + text[at + 1 :],
    lambda text, at, more: text[:at] + more + text[at:],
    lambda text, at, more: text[:at] + more + text[at + 1 :],
    lambda text, at, _: text[:at],
    lambda text, at, _: text[:at] + text[at:] * 2,
]


@many
@given(_python_json, st.booleans(), st.data())
def test_json_with_a_few_mistakes_in_it_is_read_or_refused(value: Any, escaped: bool, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    _check_that_it_is_read_or_refused(text)
    for _ in range(data.draw(st.integers(1, 3))):
        edit = data.draw(st.sampled_from(_edits))
        at = data.draw(st.integers(0, len(text)))
        text = edit(
            text, at, data.draw(st.sampled_from(["{", "}", "[", "]", '"', ",", ":", "\\", "1", "e", "\x00", "null"]))
        )
    _check_that_it_is_read_or_refused(text)


@some
@given(_python_json)
def test_json_is_refused_only_for_what_the_contract_names(value: Any) -> None:
    if _storable(value, 0):
        assert same(from_json(json.dumps(value)), value)
    else:
        with pytest.raises(InvalidArgumentsError):
            from_json(json.dumps(value))


def _storable(value: Any, depth: int) -> bool:
    if isinstance(value, str):
        return all(each in "\t\n" or (ord(each) >= 32 and each not in "\ufffe\uffff") for each in value) and not any(
            0xD800 <= ord(each) < 0xE000 for each in value
        )
    if isinstance(value, list):
        return depth < MAX_DEPTH and all(_storable(item, depth + 1) for item in value)
    if isinstance(value, dict):
        named = all(_storable(name, 0) and _storable(item, depth + 1) for name, item in value.items())
        return depth < MAX_DEPTH and named and list(value) != [DATETIME_NAME]
    if isinstance(value, float):
        return math.isfinite(value)
    return value is not None and (isinstance(value, bool) or MIN_INT <= value <= MAX_INT)
