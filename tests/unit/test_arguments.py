"""Arguments that many calls share, and values: what is taken to the last one that is, and what is said of the next."""

import datetime as dt
import json
import xmlrpc.client
from collections.abc import Callable
from typing import Any

import pytest

from supervisor_cache.core import codec, operations
from supervisor_cache.core.keys import checked_key, checked_note, checked_prefix
from supervisor_cache.core.limits import Limits
from supervisor_cache.core.options import (
    MAX_TTL,
    checked_limit,
    checked_revision,
    checked_timeout,
    checked_ttl,
    delete_options,
    store_options,
    touch_options,
)
from supervisor_cache.core.text import shown
from supervisor_cache.core.values import check_value, reply_size
from supervisor_cache.errors import CacheError, InvalidArgumentsError, InvalidKeyError, LimitExceededError
from tests.model import Bench

NAN = float("nan")


@pytest.mark.parametrize(
    ("check", "kind", "taken"),
    [
        (checked_ttl, float, [0.001, 1, MAX_TTL, float(MAX_TTL)]),
        (lambda ttl: checked_ttl(ttl, may_be_zero=True), float, [0, 0.0, 1]),
        (checked_timeout, float, [0, 0.5, 1500, 1500.0]),
        (checked_limit, int, [0, 1, 10**9]),
    ],
)
def test_a_number_is_taken_to_its_bounds(check: Callable[[object], float], kind: type, taken: list[Any]) -> None:
    found = [check(number) for number in taken]
    assert found == taken
    assert {type(number) for number in found} == {kind}


@pytest.mark.parametrize(
    ("check", "refused", "text"),
    [
        (
            checked_ttl,
            [0, -0.5, -1, 0.0, MAX_TTL + 1, NAN, True, "5", None],
            "ttl must be a number of seconds above 0, and at most 316224000",
        ),
        (
            lambda ttl: checked_ttl(ttl, may_be_zero=True),
            [-0.001, -0.5, -1, -1.5, MAX_TTL + 1, NAN, False, "0"],
            "ttl must be a number of seconds of at least 0, and at most 316224000",
        ),
        (
            checked_timeout,
            [-0.001, 1500.1, NAN, float("inf"), True, "5", None],
            "timeout must be a number of seconds from 0 to 1500",
        ),
        (checked_limit, [-1, 1.0, True, False, "1", None], "limit must be an integer of at least 0"),
    ],
)
def test_a_number_beyond_its_bounds_is_refused(check: Callable[[object], Any], refused: list[Any], text: str) -> None:
    for number in refused:
        with pytest.raises(InvalidArgumentsError, match=f"^{text}$"):
            check(number)


def test_a_revision_is_a_decimal_string() -> None:
    assert [checked_revision(text) for text in ("", "0", "15", "9" * 20)] == [0, 0, 15, int("9" * 20)]
    for text in ("9" * 21, "-1", "1.0", " 1", "1\n", "0x1", "\u0661"):
        with pytest.raises(InvalidArgumentsError, match=r"^revision '.*' is no decimal number$"):
            checked_revision(text)
    for other in (5, None, True, b"5"):
        with pytest.raises(InvalidArgumentsError, match=r"^revision must be a string$"):
            checked_revision(other)


def test_options_that_are_not_given_are_none() -> None:
    for read in (store_options, touch_options, delete_options):
        assert read("") == (None, None, None, None, False)
        assert read({}) == (None, None, None, None, False)
    assert type(store_options({"ttl": 5}).ttl) is float
    with pytest.raises(InvalidArgumentsError, match=r"^ttl must be a number of seconds above 0"):
        store_options({"ttl": 0})
    given = {"ttl": 5, "owner": "p", "pid": 7, "note": "n", "if_changed": True}
    assert store_options(given) == (5.0, "p", 7, "n", True)
    assert touch_options({"owner": "p", "pid": 7, "note": ""}) == (None, "p", 7, "", False)
    assert delete_options({"note": "n"}) == (None, None, None, "n", False)
    assert store_options({"owner": "p", "pid": 1}).pid == 1


@pytest.mark.parametrize(
    ("read", "options", "text"),
    [
        (store_options, None, "options must be a struct"),
        (touch_options, {"ttl": 5}, "unknown option 'ttl'; this call knows owner, pid, note"),
        (touch_options, {"if_changed": True}, "unknown option 'if_changed'; this call knows owner, pid, note"),
        (delete_options, {"owner": "p"}, "unknown option 'owner'; this call knows note"),
        (store_options, {5: 5}, "unknown option '5'; this call knows ttl, owner, pid, note, if_changed"),
        (store_options, {"owner": 5}, "option owner must be a string"),
        (store_options, {"owner": "p", "pid": 0}, "option pid must be an integer above 0"),
        (store_options, {"owner": "p", "pid": True}, "option pid must be an integer above 0"),
        (store_options, {"owner": "p", "pid": "7"}, "option pid must be an integer above 0"),
        (store_options, {"pid": 7}, "option pid goes with owner"),
        (store_options, {"owner": "", "pid": 7}, "option pid goes with owner"),
        (store_options, {"if_changed": None}, "option if_changed must be a boolean"),
    ],
)
def test_a_wrong_option_says_what_is_wrong(read: Callable[[object], Any], options: Any, text: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=f"^{text}$"):
        read(options)


def test_a_pid_that_is_another_is_told_with_the_one_that_runs() -> None:
    bench = Bench()
    bench.pids["p:0"] = 7
    with pytest.raises(InvalidArgumentsError, match=r"^p:0 has pid 7, not 8$"):
        bench.write(operations.store, "k", 1, {"owner": "p:0", "pid": 8})
    bench.write(operations.store, "k", 1, {"owner": "p:0", "pid": 7})
    assert bench.cache.entry("k").owner == ("p:0", 7)


def test_a_prefix_may_be_empty_and_as_long_as_a_key_can_ever_be() -> None:
    assert [checked_prefix(prefix) for prefix in ("", "a/", "ä" * 32_768)] == ["", "a/", "ä" * 32_768]
    with pytest.raises(InvalidArgumentsError, match=r"^prefix '.*\.\.\. has 65537 bytes; no key has so many$"):
        checked_prefix("x" * 65_537)
    with pytest.raises(InvalidArgumentsError, match=r"^after 'a\\t' has character U\+0009 at position 1, which keys"):
        checked_prefix("a\t", "after")
    with pytest.raises(InvalidArgumentsError, match=r"^prefix must be a string$"):
        checked_prefix(5)
    with pytest.raises(InvalidArgumentsError, match=r"^after must be a string$"):
        checked_prefix(None, "after")


def test_a_note_is_a_line_of_a_kilobyte() -> None:
    assert [checked_note(note) for note in ("", "ä" * 512)] == ["", "ä" * 512]
    for wrong, text in (
        ("x" * 1025, "note has 1025 bytes; at most 1024 are allowed"),
        ("a\n", r"note has character U\+000A at position 1, which notes may not have"),
        (5, "note must be a string"),
    ):
        with pytest.raises(InvalidArgumentsError, match=f"^{text}$"):
            checked_note(wrong)


def test_a_key_is_taken_to_its_last_byte() -> None:
    assert [checked_key(key, 4) for key in ("a", "abcd", "ää", "\x7f")] == ["a", "abcd", "ää", "\x7f"]
    for wrong, text in (
        ("abcde", "key 'abcde' has 5 bytes; max_key_bytes is 4"),
        ("ääa", r"key '\\xe4\\xe4a' has 5 bytes; max_key_bytes is 4"),
        ("", "a key must not be empty"),
        (5, "a key must be a string"),
    ):
        with pytest.raises(InvalidKeyError, match=f"^{text}$"):
            checked_key(wrong, 4)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (None, "value: nil cannot be stored"),
        ((1,), "value: a Python tuple cannot be stored"),
        ([(1,)], r"value\[0\]: a Python tuple cannot be stored"),
        ({"a": [1, {"b": None}]}, r"value\['a'\]\[1\]\['b'\]: nil cannot be stored"),
        ([0, [NAN]], r"value\[1\]\[0\]: a double that is not finite cannot be stored"),
        ([2**31], r"value\[0\]: an integer beyond 32 bits cannot be stored"),
        (-(2**31) - 1, "value: an integer beyond 32 bits cannot be stored"),
        ("a\0", r"value: character U\+0000 at position 1 cannot be stored"),
        ({"a\r": 1}, r"value\['a\\r'\]: its name has character U\+000D at position 1, which cannot be stored"),
        ({"x" * 50: None}, r"value\['x{36}\.\.\.\]: nil cannot be stored"),
        ({5: 1}, r"value\['5'\]: its name must be a string"),
        (dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), "value: a dateTime has no time zone and no fraction"),
        (dt.datetime(2026, 1, 1, microsecond=1), "value: a dateTime has no time zone and no fraction"),  # noqa: DTZ001
        (
            {"$dateTime": 5},
            r"value: a struct with the one name \$dateTime cannot be stored: as JSON it means a dateTime",
        ),
    ],
)
def test_what_cannot_be_stored_is_told_with_its_place(value: object, where: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=f"^{where}"):
        check_value(value)


def test_the_bytes_of_a_value_in_a_reply_are_those_that_the_marshaller_makes() -> None:
    moment = dt.datetime(2026, 11, 3, 12)  # noqa: DTZ001 - XML-RPC's has no zone
    values: list[Any] = ["ä<&>", "", True, False, -15, 0, 1.5, -1e300, moment, [], [1, "a"], {}, {"a&": 1.5, "b": [{}]}]
    frame = len(xmlrpc.client.dumps(("",), methodresponse=True)) - len("<value><string></string></value>\n")
    for value in values:
        text = xmlrpc.client.dumps((value,), methodresponse=True)
        assert reply_size(value) == len(text.encode()) - frame


def test_a_value_is_taken_to_its_bounds() -> None:
    deep: Any = {"k": 1}
    for _ in range(15):
        deep = {"k": [deep]}
    check_value([deep])
    with pytest.raises(InvalidArgumentsError, match="nested deeper than 32"):
        check_value([[deep]])
    with pytest.raises(InvalidArgumentsError, match="nested deeper than 32"):
        check_value({"k": [deep]})
    for wrap in (lambda inner: [inner], lambda inner: {"k": inner}):
        nested: Any = 1
        for _ in range(32):
            nested = wrap(nested)
        check_value(nested)
        with pytest.raises(InvalidArgumentsError, match=r"(\[0\]|\['k'\]){32}: nested deeper than 32$"):
            check_value(wrap(nested))
    values: list[Any] = [2**31 - 1, -(2**31), "a\tb\n", "", [], {}, {"$dateTime": 1, "other": 2}]
    for value in values:
        check_value(value)


def test_many_elements_are_refused_before_they_are_looked_at() -> None:
    bench = Bench(Limits(max_value_bytes=10))
    text = "the value for 'k' has at least 12 bytes as JSON; max_value_bytes is 10"
    for value in ([None] * 6, dict.fromkeys("abcdef")):
        with pytest.raises(LimitExceededError, match=text):
            bench.write(operations.store, "k", value)
    # Five elements may fit, and four do.
    with pytest.raises(LimitExceededError, match="the value for 'k' has 11 bytes as JSON"):
        bench.write(operations.store, "k", [1] * 5)
    assert bench.write(operations.store, "k", [1] * 4) is True


def test_a_value_that_a_lowered_limit_has_passed_may_be_stored_again_and_shrink() -> None:
    bench = Bench()
    bench.write(operations.store_many, {"list": [1] * 10, "text": "x" * 20, "escaped": "&" * 10 + "\n"})
    bench.cache.limits = Limits(max_value_bytes=4)
    for key, value, more in (
        ("list", [1] * 10, [1] * 11),
        ("text", "x" * 20, "x" * 21),
        ("escaped", "&" * 10 + "\n", "&" * 11 + "\n"),
    ):
        assert bench.write(operations.store, key, value) is True
        with pytest.raises(LimitExceededError, match="max_value_bytes is 4"):
            bench.write(operations.store, key, more)
    with pytest.raises(LimitExceededError, match=r"the value for 'list' has at least 40 bytes"):
        bench.write(operations.store, "list", [1] * 20)
    assert bench.write(operations.store, "text", "x" * 19) is True
    with pytest.raises(LimitExceededError):
        bench.write(operations.store, "text", "x" * 20)


def test_values_are_the_same_only_where_their_types_are() -> None:
    bench = Bench()
    options = {"if_changed": True}
    for one, other in (
        (1, True),
        (1, 1.0),
        ([1], [True]),
        ({"a": 0}, {"a": False}),
        ({"a": 1}, {"b": 1}),
        ([1], [1, 1]),
    ):
        for first, second in ((one, other), (other, one)):
            bench.write(operations.store, "k", first)
            assert bench.write(operations.replace, "k", first, options) is None
            assert bench.write(operations.replace, "k", second, options) is not None


def test_what_has_an_end_or_another_note_or_owner_is_always_news() -> None:
    bench = Bench()
    bench.pids["p:0"] = 7
    for options in ({"ttl": 5}, {"note": "n"}, {"owner": "p:0"}):
        bench.write(operations.store, "k", 1)
        assert bench.write(operations.replace, "k", 1, {**options, "if_changed": True}) is not None
        bench.write(operations.store, "k", 1, options)
        assert bench.write(operations.replace, "k", 1, {"if_changed": True}) is not None
    bench.write(operations.store, "k", 1, {"ttl": 5})
    assert bench.write(operations.replace, "k", 1, {"ttl": 5, "if_changed": True}) is not None


@pytest.mark.parametrize("is_accelerated", [True, False])
def test_json_is_written_the_same_with_the_accelerator_and_without(
    monkeypatch: pytest.MonkeyPatch, is_accelerated: bool
) -> None:
    """Not every Python has it."""
    moment = dt.datetime(26, 1, 2, 3, 4, 5)  # noqa: DTZ001 - XML-RPC's has no zone
    values: list[Any] = ["ä\n", 5, -1.5, True, [1, "ä", moment], {"a": {"ö": [], "b": 1}}]
    told = '{"$dateTime":"0026-01-02T03:04:05"}'
    expected = ['"ä\\n"', "5", "-1.5", "true", f'[1,"ä",{told}]', '{"a":{"ö":[],"b":1}}']
    if not is_accelerated:
        monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    write = codec._encoder(ensure_ascii=False)
    assert [write(value) for value in values] == expected
    write_ascii = codec._encoder(ensure_ascii=True)
    assert [write_ascii(value) for value in values] == [
        text.replace("ä", "\\u00e4").replace("ö", "\\u00f6") for text in expected
    ]
    assert [codec.to_json(value) for value in values] == expected


def test_a_date_within_a_value_is_one_again_and_what_only_looks_like_one_is_not() -> None:
    bench = Bench()
    moment = dt.datetime(2026, 11, 3, 12)  # noqa: DTZ001 - likewise
    values: dict[str, Any] = {
        "date": moment,
        "array": [moment, 1],
        "struct": {"at": moment, "more": {"$dateTime": "x", "other": 1}},
        "name": {"other": "$dateTime"},
    }
    bench.write(operations.store_many, values)
    assert bench.cache.items() == values
    assert codec.from_json('[{"$dateTime":"2026-11-03T12:00:00"},{"$dateTime":"x","other":1}]') == [
        moment,
        {"$dateTime": "x", "other": 1},
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a":1,"a":2}', "value: a name stands twice in one object"),
        ('{"$dateTime":"2026-1-3T1:2:3"}', r'value: \$dateTime must be a date like "2026-11-03T12:00:00"'),
        ('{"$dateTime":"2026-11-03 12:00:00"}', r"value: \$dateTime must be a date"),
        ('{"$dateTime":"2026-11-03T12:00:00+00:00"}', r"value: \$dateTime must be a date"),
        ('{"$dateTime":"2026-11-03T12:00:00.500000"}', r"value: \$dateTime must be a date"),
        ('{"$dateTime":"20261103T120000"}', r"value: \$dateTime must be a date"),
        ('{"$dateTime":"2026-11-03T24:00:00"}', r"value: \$dateTime must be a date"),
        ('{"$dateTime":"2026-11-03"}', r"value: \$dateTime must be a date"),
        ('{"$dateTime":5}', r"value: \$dateTime must be a date"),
        ("12345678901", None),
        ("-2147483648", ""),
        ("123456789012", "value: an integer beyond 32 bits cannot be stored"),
        ("9" * 10_000, "value: an integer beyond 32 bits cannot be stored"),
        ("NaN", "value: NaN is not JSON"),
        ("-Infinity", "value: -Infinity is not JSON"),
        ("[" * 100_000, "value: nested deeper than 32"),
        ("[1", r"value: not JSON: "),
        ("", "value: not JSON: "),
    ],
)
def test_what_is_no_json_of_ours_is_told(text: str, why: str | None) -> None:
    if why == "":
        assert codec.from_json(text) == int(text)
        return
    with pytest.raises(InvalidArgumentsError, match=f"^{why or 'value: an integer beyond 32 bits'}"):
        codec.from_json(text)


def test_what_is_shown_is_cut_at_its_last_character() -> None:
    assert shown("x" * 38, 40) == "'" + "x" * 38 + "'"
    assert shown("x" * 39, 40) == "'" + "x" * 36 + "..."
    assert shown("ä" * 10, 40) == "'" + "\\xe4" * 9 + "..."
    assert len(shown("x" * 1000)) == 200


def test_an_error_names_the_fault_and_what_is_wrong() -> None:
    assert CacheError("why").fault_string == "FAILED: why"
    assert CacheError("").fault_string == "FAILED"
