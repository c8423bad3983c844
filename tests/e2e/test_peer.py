"""Release 1.1.0 and this one, side by side on the wire: the same answers, but for the defects that are mended."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError
from xmlrpc.client import DateTime, Fault, ProtocolError

import pytest
import supervisor.options
from hypothesis import given, settings
from hypothesis import strategies as st
from supervisor.xmlrpc import SupervisorTransport

from tests.conftest import StartSupervisord, missing
from tests.harness import Supervisord, running, until

BINARIES = Path(__file__).parents[2] / ".venv-1.1.0" / "bin"
# The prompt is fed from a pipe; what it reads must not depend on the locale of whoever runs the tests.
UTF_8 = {"PYTHONIOENCODING": "utf-8"}
MISSING_ON_OLD = re.compile(r"error: <class 'xmlrpc\.client\.Fault'>, <Fault 10: 'BAD_NAME'>: file: \S+ line: \d+\n")


@pytest.fixture(scope="module")
def old() -> Iterator[Supervisord]:
    """A supervisord that runs release 1.1.0."""
    if not (BINARIES / "supervisord").exists():
        missing("release 1.1.0 (make test installs it)")
    with running(binaries=BINARIES, environment=UTF_8) as supervisord:
        yield supervisord


@pytest.fixture(scope="module")
def new() -> Iterator[Supervisord]:
    """A supervisord that runs this release, configured alike."""
    with running(environment=UTF_8) as supervisord:
        yield supervisord
        assert "Traceback" not in supervisord.log


class Pair:
    """The namespace ``cache`` of both, over their unix sockets."""

    def __init__(self, old: Supervisord, new: Supervisord) -> None:
        self._supervisords = old, new
        self.old, self.new = self._connect()

    def _connect(self) -> tuple[Any, Any]:
        old, new = self._supervisords
        return old.unix().cache, new.unix().cache

    def clear(self) -> None:
        """Empty both, over new connections: a reload has cut the old ones."""
        self.old, self.new = self._connect()
        for cache in (self.old, self.new):
            assert cache.clear() is True

    def agree(self, method: str, *arguments: object) -> None:
        """Call ``method`` on both, and compare what they answer, types too, or the code of the fault."""
        assert answer(self.old, method, *arguments) == answer(self.new, method, *arguments), (method, arguments)

    def agree_on_all(self) -> None:
        """Compare all that can be read."""
        self.agree("getKeys")
        self.agree("getCount")
        for key in self.old.getKeys():
            self.agree("fetch", key)


@pytest.fixture(scope="module")
def both(old: Supervisord, new: Supervisord) -> Pair:
    return Pair(old, new)


@pytest.fixture
def pair(both: Pair) -> Pair:
    both.clear()
    return both


def answer(cache: Any, method: str, *arguments: object) -> object:
    try:
        return typed(getattr(cache, method)(*arguments))
    except Fault as fault:
        return f"fault {fault.faultCode}"


def typed(value: Any) -> object:
    """Set ``value`` apart from what Python's ``==`` takes for the same, as True and 1 and 1.0."""
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    return type(value).__name__, str(value)


def post(supervisord: Supervisord, method: str, *parameters: str) -> Any:
    """Call a method of ``cache`` with parameters that are XML already: what Python's client would not send."""
    transport = SupervisorTransport(None, None, supervisord.unix_url)
    inner = "".join(f"<param><value>{parameter}</value></param>" for parameter in parameters)
    body = f"<methodCall><methodName>cache.{method}</methodName><params>{inner}</params></methodCall>"
    try:
        return transport.request("127.0.0.1", "/RPC2", body.encode())[0]
    finally:
        transport.close()


def refusal(supervisord: Supervisord, method: str, *arguments: object) -> tuple[int, str]:
    """Call what ends in a fault, and answer its code and text."""
    with pytest.raises(Fault) as caught:
        getattr(supervisord.unix().cache, method)(*arguments)
    return caught.value.faultCode, caught.value.faultString


def store_many(supervisord: Supervisord, keys: list[str]) -> None:
    """Store an empty string under each key, in a way that both releases know, and that is quick."""
    for first in range(0, len(keys), 500):
        calls = [{"methodName": "cache.store", "params": [key, ""]} for key in keys[first : first + 500]]
        assert supervisord.unix().system.multicall(calls) == [True] * len(calls)


def ran(supervisord: Supervisord, *arguments: str, of: Supervisord | None = None) -> tuple[int, str, str]:
    """Run supervisorctl, of another release if ``of`` says so, and answer its status, stdout and stderr."""
    ended = (of or supervisord).ctl(*arguments, url=supervisord.unix_url)
    return ended.returncode, ended.stdout, ended.stderr


def at_the_prompt(supervisord: Supervisord, lines: list[str]) -> bytes:
    """Type ``lines`` at the prompt of supervisorctl, and answer what it writes."""
    command = [str(supervisord.binaries / "supervisorctl"), "-c", str(supervisord.configuration)]
    typed_in = "".join(f"{line}\n" for line in lines).encode()
    ended = subprocess.run(
        command, input=typed_in, capture_output=True, env=supervisord.environment, timeout=30, check=True
    )
    assert ended.stderr == b""
    return ended.stdout


# The same

ARRAY = "<array><data>{}</data></array>"
STRUCT = "<struct><member><name>{}</name><value>{}</value></member></struct>"
CALLS: list[tuple[str, tuple[object, ...]]] = [
    ("getKeys", ()),
    ("getCount", ()),
    ("clear", ()),
    ("store", ("b", "2")),
    ("store", ("a", "1")),
    ("store", ("\U0001f98a ä", "ö 雪")),
    ("store", ("B", "")),
    ("getKeys", ()),
    ("store", ("a", {"nested": [1, 2.5, True, "x", {"": []}]})),
    ("fetch", ("a",)),
    ("fetch", ("A",)),
    ("fetch", ("",)),
    ("fetch", (1,)),
    ("fetch", ([],)),
    ("store", ("", 1)),
    ("store", (True, 1)),
    ("store", ({}, 1)),
    ("delete", ("",)),
    ("delete", (2.5,)),
    ("delete", ("never stored",)),
    ("delete", ("b",)),
    ("delete", ("b",)),
    ("fetch", ("b",)),
    ("getCount", ()),
    ("fetch", ()),
    ("fetch", ("a", "b")),
    ("store", ()),
    ("store", ("a",)),
    ("store", ("a", 1, {}, 2)),
    ("delete", ()),
    ("delete", ("a", {}, 1)),
    ("clear", ({}, 1)),
    ("getCount", (1,)),
    ("getAPIVersion", (1,)),
    ("noSuchMethod", ()),
    ("_update", ("x",)),
    ("store.x", ()),
    ("getKeys", ()),
    ("clear", ()),
    ("getCount", ()),
]
VALUES: list[object] = [
    "",
    " \n\t leading and trailing \n",
    "<&>]]>'\"",
    "line\nline",
    "C1 \x85\x9b, bidi \u202e, BOM \ufeff",
    "x" * 60_000,
    "ä" * 30_000,
    0,
    -(2**31),
    2**31 - 1,
    True,
    False,
    0.1,
    -1e300,
    5e-324,
    DateTime("20261103T12:00:00"),
    DateTime("19700101T00:00:00"),
    [],
    {},
    [[], [[]], {"a": {}}],
    {"a b": 1, "": 2, "ä": [3]},
    list(range(500)),
]
RAW = [
    "<i8>4294967296</i8>",  # Supervisor hands it on as text
    "text without a type",
    "<base64>aGVsbG8gw6Q=</base64>",
    "<boolean>1</boolean>",
    "<i4>+7</i4>",
    ARRAY.format("<value>a</value>" * 3),
    STRUCT.format("n", STRUCT.format("m", "<int>1</int>")),
]


def test_the_same_calls_get_the_same_answers_and_faults(pair: Pair) -> None:
    for method, arguments in CALLS:
        pair.agree(method, *arguments)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_a_value_comes_back_alike(pair: Pair, value: object) -> None:
    pair.agree("store", "k", value)
    pair.agree_on_all()


@pytest.mark.parametrize("xml", RAW)
def test_a_value_from_another_kind_of_client_comes_back_alike(
    pair: Pair, old: Supervisord, new: Supervisord, xml: str
) -> None:
    for supervisord in (old, new):
        assert post(supervisord, "store", "k", xml) is True
    pair.agree("fetch", "k")


def test_the_seven_methods_are_there(old: Supervisord, new: Supervisord) -> None:
    names = {name for name in old.unix().system.listMethods() if name.startswith("cache.")}
    assert len(names) == 7
    assert names < set(new.unix().system.listMethods())


def test_multicall_gets_the_same(pair: Pair, old: Supervisord, new: Supervisord) -> None:
    def outcome(supervisord: Supervisord) -> list[object]:
        calls = [
            {"methodName": "cache.store", "params": ["k", ["v"]]},
            {"methodName": "cache.fetch", "params": ["k"]},
            {"methodName": "cache.fetch", "params": ["missing"]},
            {"methodName": "cache.fetch", "params": []},
            {"methodName": "cache.getKeys", "params": []},
        ]
        answers: list[Any] = supervisord.unix().system.multicall(calls)
        return [found["faultCode"] if isinstance(found, dict) else found for found in answers]

    assert outcome(old) == outcome(new) == [True, ["v"], 10, 2, ["k"]]
    pair.agree_on_all()


# Which characters Python shows escaped depends on its version's Unicode, and the two may have different Pythons: these
# have long been there.
CHARACTERS = st.characters(min_codepoint=0x20, max_codepoint=0x2FF) | st.sampled_from(
    "дξא雪\u202e\u2028\ufeff\U0001f98a"
)
LINES = st.text(CHARACTERS, max_size=20)
KEYS = st.sampled_from(["a", "b", "ä", "process/web:1/pid", "\U0001f98a"]) | st.text(CHARACTERS, min_size=1, max_size=8)
TEXTS = st.text(CHARACTERS | st.sampled_from("\t\n"), max_size=40)
SCALARS = (
    TEXTS
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.datetimes().map(lambda moment: DateTime(moment.replace(microsecond=0)))
)
NESTED = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=10
)
CALL = st.one_of(
    st.tuples(st.just("store"), KEYS, NESTED),
    st.tuples(st.just("store"), KEYS, NESTED),
    st.tuples(st.sampled_from(["fetch", "delete"]), KEYS),
    st.tuples(st.sampled_from(["getKeys", "getCount", "clear"])),
)


@settings(max_examples=60, deadline=None)
@given(calls=st.lists(CALL, max_size=12))
def test_any_calls_get_the_same_answers(both: Pair, calls: list[tuple[Any, ...]]) -> None:
    both.clear()
    for method, *arguments in calls:
        both.agree(method, *arguments)
    both.agree_on_all()


COMMANDS = [
    ["cache_count"],
    ["cache_keys"],
    ["cache_store", "release", "2026.11.3"],
    ["cache_store", "flag", "-v"],
    ["cache_store", "-dash", "--dashes"],
    ["cache_store", "ä", "雪\U0001f98a"],
    ["cache_store", "long/key/" + "k" * 90, "word" * 60],
    ["cache_fetch", "-dash"],
    ["cache_fetch", "ä"],
    ["cache_fetch", "long/key/" + "k" * 90],
    ["cache_keys"],
    ["cache_count"],
    ["cache_delete", "flag"],
    ["cache_delete", "never-stored"],
    ["cache_store release again"],
    ["cache_store quoted 'a  b'"],
    ["cache_fetch", "quoted"],
    ["cache_clear"],
]


def test_the_six_commands_print_the_same(pair: Pair, old: Supervisord, new: Supervisord) -> None:
    for command in COMMANDS:
        status, there, complaint = ran(old, *command)
        assert (status, complaint) == (0, ""), command
        assert ran(new, *command) == (0, there, ""), command
        pair.agree("getKeys")


def test_values_of_any_type_are_printed_alike(pair: Pair, old: Supervisord, new: Supervisord) -> None:
    for number, value in enumerate(VALUES):
        pair.agree("store", str(number), value)
    lines = [f"cache_fetch {number}" for number in range(len(VALUES))]
    there = without_addresses(at_the_prompt(old, lines))
    assert without_addresses(at_the_prompt(new, lines)) == there
    assert there.count(b"supervisor> ") == len(VALUES) + 1
    assert b"error" not in there


@st.composite
def scripts(draw: st.DrawFn) -> list[str]:
    """Lines for the prompt that all succeed: what they fetch is there."""
    stored: list[str] = []
    lines = []
    for _ in range(draw(st.integers(1, 12))):
        verb = draw(st.sampled_from(["store", "store", "fetch", "delete", "keys", "count"]))
        words = []
        if verb == "store":
            # Two dashes begin an option now.
            key = draw(KEYS.filter(lambda text: not text.startswith("--")))
            stored.append(key)
            words = [key, draw(LINES)]
        elif verb in {"fetch", "delete"}:
            if not stored:
                continue
            words = [draw(st.sampled_from(stored))]
            if verb == "delete":
                stored = [key for key in stored if key != words[0]]
        lines.append(" ".join([f"cache_{verb}", *map(shlex.quote, words)]))
    return lines


@settings(max_examples=10, deadline=None)
@given(values=st.dictionaries(KEYS, NESTED, max_size=5), lines=scripts())
def test_any_commands_print_the_same(
    both: Pair, old: Supervisord, new: Supervisord, values: dict[str, Any], lines: list[str]
) -> None:
    both.clear()
    for key, value in values.items():
        both.agree("store", key, value)
    fetches = [f"cache_fetch -- {shlex.quote(key)}" for key in values]
    there = at_the_prompt(old, [line.replace(" -- ", " ", 1) for line in fetches] + lines)
    here = at_the_prompt(new, fetches + lines)
    assert without_addresses(there) == without_addresses(here)
    both.agree_on_all()


def without_addresses(output: bytes) -> bytes:
    return re.sub(rb" at 0x[0-9a-f]+", b"", output)


# The defects of 1.1.0: each test shows one, and that it is gone


def test_each_server_had_its_own_data(pair: Pair, old: Supervisord, new: Supervisord) -> None:
    pair.agree("store", "k", "v")
    old.inet().cache.clear()
    assert old.inet().cache.getKeys() == []
    assert new.inet().cache.getKeys() == ["k"]
    assert old.unix().cache.fetch("k") == new.unix().cache.fetch("k") == new.inet().cache.fetch("k") == "v"


@pytest.mark.parametrize("how", ["reload", "hang_up", "supervisorctl"])
def test_a_reload_lost_everything(old: Supervisord, new: Supervisord, how: str) -> None:
    for supervisord in (old, new):
        supervisord.unix().cache.clear()
        supervisord.unix().cache.store("k", "v")
        if how == "supervisorctl":
            before = supervisord.generations()
            assert supervisord.ctl("reload").returncode == 0
            until(lambda s=supervisord, n=before: s.generations() > n, "supervisord reloads")  # type: ignore[misc]
            supervisord.wait_until_up()
        else:
            getattr(supervisord, how)()
    assert old.unix().cache.getKeys() == []
    assert new.unix().cache.getKeys() == ["k"]


DEEP = "<array><data><value>" * 2000 + "1" + "</value></data></array>" * 2000
UNREADABLE = [
    ("<nil/>", ProtocolError, "nil cannot be stored"),
    (ARRAY.format("<value><nil/></value>"), ProtocolError, "value[0]: nil cannot be stored"),
    ("<int>2147483648</int>", ProtocolError, "an integer beyond 32 bits cannot be stored"),
    ("<i4>-2147483649</i4>", ProtocolError, "an integer beyond 32 bits cannot be stored"),
    (STRUCT.format("n", "<int>99999999999</int>"), ProtocolError, "value['n']: an integer beyond 32 bits"),
    (DEEP, ProtocolError, "nested deeper than 32"),
    ("<base64>AQ==</base64>", ExpatError, "character U+0001 at position 0 cannot be stored"),
    ("<base64>YRti</base64>", ExpatError, "character U+001B at position 1 cannot be stored"),
    (STRUCT.format("n", "<base64>AA==</base64>"), ExpatError, "value['n']: character U+0000 at position 0"),
]


@pytest.mark.parametrize(("xml", "error", "reason"), UNREADABLE, ids=[reason for _, _, reason in UNREADABLE])
@pytest.mark.usefixtures("pair")
def test_a_value_was_stored_that_nobody_could_fetch(
    old: Supervisord, new: Supervisord, xml: str, error: type[Exception], reason: str
) -> None:
    assert post(old, "store", "k", xml) is True
    with pytest.raises(error) as unreadable:
        old.unix().cache.fetch("k")
    if isinstance(unreadable.value, ProtocolError):
        assert unreadable.value.errcode == 500
    with pytest.raises(Fault) as refused:
        post(new, "store", "k", xml)
    assert refused.value.faultCode == 3
    assert refused.value.faultString.startswith("BAD_ARGUMENTS: value")
    assert reason in refused.value.faultString
    assert new.unix().cache.getCount() == 0


CHANGED = [
    ("<string>a&#13;b</string>", "a\nb", "character U+000D at position 1 cannot be stored"),
    ("<double>nan</double>", float("nan"), "a double that is not finite cannot be stored"),
    ("<double>-inf</double>", float("-inf"), "a double that is not finite cannot be stored"),
]


@pytest.mark.parametrize(("xml", "back", "reason"), CHANGED, ids=[reason for _, _, reason in CHANGED])
@pytest.mark.usefixtures("pair")
def test_a_value_was_stored_that_xml_or_json_cannot_carry(
    old: Supervisord, new: Supervisord, xml: str, back: object, reason: str
) -> None:
    assert post(old, "store", "k", xml) is True
    assert repr(old.unix().cache.fetch("k")) == repr(back)
    with pytest.raises(Fault, match=re.escape(f"BAD_ARGUMENTS: value: {reason}")):
        post(new, "store", "k", xml)


@pytest.mark.usefixtures("pair")
def test_one_key_with_a_control_character_made_all_keys_unreadable(old: Supervisord, new: Supervisord) -> None:
    for supervisord in (old, new):
        supervisord.unix().cache.store("good", 1)
    assert post(old, "store", "<base64>YgE=</base64>", "v") is True
    with pytest.raises(ExpatError):
        old.unix().cache.getKeys()
    with pytest.raises(Fault, match=r"BAD_NAME: key 'b.{1,2}x01' has character U\+0001 at position 1") as refused:
        post(new, "store", "<base64>YgE=</base64>", "v")
    assert refused.value.faultCode == 10
    assert new.unix().cache.getKeys() == ["good"]


@pytest.mark.usefixtures("pair")
def test_a_quoted_argument_was_split_and_nothing_stored(old: Supervisord, new: Supervisord) -> None:
    status, output, _ = ran(old, "cache_store", "foo", "bar baz")
    assert (status, output[:12]) == (0, "cache_store ")
    assert old.unix().cache.getCount() == 0
    assert ran(new, "cache_store", "foo", "bar baz") == (0, "", "")
    assert new.unix().cache.fetch("foo") == "bar baz"


@pytest.mark.parametrize(
    ("typed_value", "stored_before"),
    [('{"a":1}', "{a:1}"), ("it\\'s", "it's"), ("'bar baz'", "bar baz"), ('"bar baz"', "bar baz"), ("a\\b", "ab")],
)
@pytest.mark.usefixtures("pair")
def test_an_argument_lost_its_quotes_and_doubled_ones_are_now_stored(
    old: Supervisord, new: Supervisord, typed_value: str, stored_before: str
) -> None:
    for supervisord in (old, new):
        assert ran(supervisord, "cache_store", "foo", typed_value) == (0, "", "")
    assert old.unix().cache.fetch("foo") == stored_before
    assert new.unix().cache.fetch("foo") == typed_value


@pytest.mark.usefixtures("pair")
def test_an_empty_argument_was_lost(old: Supervisord, new: Supervisord) -> None:
    assert ran(old, "cache_store", "foo", "")[0] == 0
    assert old.unix().cache.getCount() == 0
    assert ran(new, "cache_store", "foo", "") == (0, "", "")
    assert new.unix().cache.fetch("foo") == ""


@pytest.mark.usefixtures("pair")
def test_a_missing_key_showed_a_class_a_file_and_a_line(old: Supervisord, new: Supervisord) -> None:
    status, output, complaint = ran(old, "cache_fetch", "foo")
    assert MISSING_ON_OLD.fullmatch(output)
    assert (status, complaint) == (1, "")
    assert ran(new, "cache_fetch", "foo") == (1, "", "foo: ERROR (no such key)\n")


@pytest.mark.parametrize(
    "command",
    [
        ["cache_store"],
        ["cache_store", "k"],
        ["cache_store", "k", "v", "w"],
        ["cache_fetch"],
        ["cache_fetch", "k", "l"],
        ["cache_delete"],
        ["cache_count", "x"],
        ["cache_clear", "x"],
        ["cache_keys", "x", "y"],
    ],
    ids=" ".join,
)
def test_wrong_usage_showed_the_help_on_stdout_and_exited_0(
    pair: Pair, old: Supervisord, new: Supervisord, command: list[str]
) -> None:
    pair.agree("store", "k", "kept")
    status, output, complaint = ran(old, *command)
    assert (status, complaint) == (0, "")
    assert output.startswith(f"{command[0]}")
    status, output, complaint = ran(new, *command)
    assert (status, output) == (2, "")
    assert complaint.splitlines()[1].startswith(f"usage: {command[0]}")
    pair.agree_on_all()


@pytest.mark.usefixtures("pair")
def test_a_fault_said_nothing_but_its_name(old: Supervisord, new: Supervisord) -> None:
    assert refusal(old, "fetch", "missing") == (10, "BAD_NAME")
    assert refusal(new, "fetch", "missing") == (10, "BAD_NAME: no such key: 'missing'")
    long = "k" * 1025
    assert refusal(old, "fetch", long) == (10, "BAD_NAME")
    code, text = refusal(new, "store", long, "the value")
    assert code == 10
    assert re.fullmatch("BAD_NAME: key 'k+\\.\\.\\. has 1025 bytes; max_key_bytes is 1024", text)
    for what in (old, new):
        what.unix().cache.store("secret key", "secret value")
    assert "secret value" not in refusal(new, "increment", "secret key")[1]


@pytest.mark.usefixtures("pair")
def test_a_value_had_no_limit(old: Supervisord, new: Supervisord) -> None:
    assert old.unix().cache.store("k", "x" * 65_536) is True
    code, text = refusal(new, "store", "k", "x" * 65_536)
    assert (code, text) == (
        201,
        "LIMIT_EXCEEDED: the value for 'k' has 65538 bytes as JSON; max_value_bytes is 65536",
    )
    assert new.unix().cache.store("k", "x" * 65_534) is True


@pytest.mark.usefixtures("pair")
def test_entries_had_no_limit(old: Supervisord, new: Supervisord) -> None:
    keys = [f"{number:05}" for number in range(10_001)]
    for supervisord in (old, new):
        store_many(supervisord, keys[:-1])
    assert old.unix().cache.store(keys[-1], "") is True
    assert old.unix().cache.getCount() == 10_001
    assert refusal(new, "store", keys[-1], "") == (
        201,
        "LIMIT_EXCEEDED: there would be 10001 entries; max_entries is 10000",
    )
    assert new.unix().cache.getKeys() == keys[:10_000]
    assert new.unix().cache.store(keys[0], "again") is True


@pytest.mark.usefixtures("pair")
def test_a_reply_had_no_limit(old: Supervisord, new: Supervisord) -> None:
    keys = [f"{number:04}{'k' * 1000}" for number in range(1100)]
    for supervisord in (old, new):
        store_many(supervisord, keys)
    assert old.unix().cache.getKeys() == keys
    code, text = refusal(new, "getKeys")
    assert code == 201
    assert text.endswith("bytes; at most 1048576 are allowed: page with prefix, after and limit")
    paged = new.unix().cache.getKeys("", "", 600)
    assert paged + new.unix().cache.getKeys("", paged[-1], 600) == keys
    # The command pages by itself.
    assert ran(new, "cache_keys") == ran(old, "cache_keys")


def test_the_version_of_the_interface_was_0_2(pair: Pair) -> None:
    assert pair.old.getAPIVersion() == "0.2"
    assert pair.new.getAPIVersion() == "2.0"


@pytest.mark.tracebacks
@pytest.mark.usefixtures("old")
def test_unknown_options_were_ignored(make_supervisord: StartSupervisord) -> None:
    sections = {"cache": {"read_onyl": "inet_http_server"}}
    assert make_supervisord(sections, binaries=BINARIES).start().inet().cache.store("k", "v") is True
    ended = make_supervisord(sections).run()
    assert ended.returncode == 2
    assert "[rpcinterface:cache] read_onyl = 'inet_http_server': unknown option" in ended.stderr


WITHOUT_PKG_RESOURCES = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pkg_resources":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
sys.modules.pop("supervisor_cache", None)
"""


def imports_without_pkg_resources(binaries: Path, path: Path | None = None) -> str:
    """Import both entry points where there is no ``pkg_resources``; answer the last line of what goes wrong."""
    first = "" if path is None else f"sys.path.insert(0, {str(path)!r})\n"
    last = "import supervisor_cache.rpcinterface, supervisor_cache.controllerplugin\n"
    command = [str(binaries / "python"), "-c", WITHOUT_PKG_RESOURCES + first + last]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.stderr.strip().rpartition("\n")[2]


@pytest.mark.usefixtures("old")
def test_its_sources_did_not_import_without_pkg_resources(tmp_path: Path) -> None:
    # What pip installs of it is a wheel, from which setuptools leaves out the module that asks for pkg_resources.
    # An unpacked release, an egg or a develop install has it: the declaration of a namespace package.
    package = tmp_path / "supervisor_cache"
    package.mkdir()
    (package / "__init__.py").write_text("from pkg_resources import declare_namespace\n")
    assert imports_without_pkg_resources(BINARIES) == ""
    assert imports_without_pkg_resources(BINARIES, tmp_path) == "ModuleNotFoundError: No module named 'pkg_resources'"


def test_this_release_imports_without_pkg_resources() -> None:
    if "pkg_resources" in Path(supervisor.options.__file__).read_text():
        pytest.skip("this Supervisor needs pkg_resources itself")
    assert imports_without_pkg_resources(Path(sys.executable).parent) == ""


# supervisorctl of one release, supervisord of the other

SIX = [
    (["cache_store", "release", "2026.11.3"], ""),
    (["cache_store", "flag", "-v"], ""),
    (["cache_count"], "2\n"),
    (["cache_keys"], "['flag', 'release']\n"),
    (["cache_fetch", "flag"], "'-v'\n"),
    (["cache_delete", "flag"], ""),
    (["cache_delete", "flag"], ""),
    (["cache_keys"], "['release']\n"),
    (["cache_clear"], ""),
    (["cache_count"], "0\n"),
]


@pytest.mark.usefixtures("pair")
def test_the_six_commands_of_1_1_0_work_with_this_supervisord(old: Supervisord, new: Supervisord) -> None:
    for command, output in SIX:
        assert ran(new, *command, of=old) == (0, output, ""), command


@pytest.mark.usefixtures("pair")
def test_the_six_commands_of_this_release_work_with_a_supervisord_that_runs_1_1_0(
    old: Supervisord, new: Supervisord
) -> None:
    for command, output in SIX:
        assert ran(old, *command, of=new) == (0, output, ""), command
    assert ran(old, "cache_fetch", "flag", of=new) == (1, "", "flag: ERROR (no such key)\n")
    assert ran(old, "cache_fetch", "--default", "none", "flag", of=new) == (0, "none\n", "")
    assert ran(old, "cache_store", "k", "a b", of=new) == (0, "", "")
    assert ran(old, "cache_fetch", "--raw", "k", of=new) == (0, "a b\n", "")
    assert ran(old, "cache_keys", "--json", of=new) == (0, '["k"]\n', "")


def test_the_help_of_1_1_0_works_beside_this_supervisord(old: Supervisord, new: Supervisord) -> None:
    assert ran(new, "help", "cache_store", of=old)[0] == 0


NO_METHOD = "cache: ERROR (this supervisord has no cache.{}: no such namespace, or an older release)\n"
NO_ARGUMENT = "cache: ERROR (cache.{} does not take this: an older release)\n"
NEWER = [
    (["cache_add", "k", "v"], NO_METHOD.format("add")),
    (["cache_items"], NO_METHOD.format("getEntries")),
    (["cache_entry", "k"], NO_METHOD.format("getEntry")),
    (["cache_increment", "k"], NO_METHOD.format("increment")),
    (["cache_stats"], NO_METHOD.format("getStats")),
    (["cache_store", "--if-revision", "1", "k", "v"], NO_METHOD.format("storeIf")),
    (["cache_store", "--if-changed", "k", "v"], NO_METHOD.format("storeMany")),
    (["cache_delete", "--if-revision", "1", "k"], NO_METHOD.format("deleteIf")),
    (["cache_delete", "k", "l"], NO_METHOD.format("deleteMany")),
    (["cache_delete", "--prefix", "k"], NO_METHOD.format("deletePrefix")),
    (["cache_store", "--note", "ops", "k", "v"], NO_ARGUMENT.format("store")),
    (["cache_delete", "--note", "ops", "k"], NO_ARGUMENT.format("delete")),
    (["cache_clear", "--note", "ops"], NO_ARGUMENT.format("clear")),
    (["cache_keys", "k"], NO_ARGUMENT.format("getKeys")),
]


@pytest.mark.parametrize(("command", "complaint"), NEWER, ids=[" ".join(command) for command, _ in NEWER])
def test_what_1_1_0_cannot_do_is_said_and_nothing_changes(
    pair: Pair, old: Supervisord, new: Supervisord, command: list[str], complaint: str
) -> None:
    pair.old.store("k", "kept")
    assert ran(old, *command, of=new) == (3, "", complaint)
    assert (pair.old.getKeys(), pair.old.fetch("k")) == (["k"], "kept")


@pytest.mark.parametrize(
    ("xml", "command", "complaint"),
    [
        ("<nil/>", ["cache_fetch", "k"], "{url}: ERROR (HTTP 500 Internal Server Error)\n"),
        ("<base64>AQ==</base64>", ["cache_fetch", "k"], "{url}: ERROR (unreadable reply: "),
        ("<double>nan</double>", ["cache_fetch", "--json", "k"], "k: ERROR ("),
    ],
)
@pytest.mark.usefixtures("pair")
def test_what_1_1_0_cannot_hand_out_is_an_error_in_one_line(
    old: Supervisord, new: Supervisord, xml: str, command: list[str], complaint: str
) -> None:
    post(old, "store", "k", xml)
    status, output, said = ran(old, *command, of=new)
    assert (status, output) == (3, "")
    assert said.startswith(complaint.format(url=old.unix_url))
    assert said.count("\n") == 1
