"""Each method at its worst within the default limits.

Supervisor's parser accepts more than clients write: any two children make a member, any element is a string, and
``<data/>`` alone is an array. Requests here are the tightest that it takes, for they carry the most into a method.
"""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.states import (
    CHAIN_DEPTH,
    CHAINS,
    LONG_PREFIX,
    MAX_ENTRIES,
    TTL_SECONDS,
    listable_keys,
    long_keys,
    short_keys,
)
from benchmarks.wire import body, request

# A little under 1 MB, for the envelope.
MAX_PARAMS = 1024 * 1024 - 400

# Stands in parameters for the revision after which all changes are known.
SINCE = "@since@"
# Half of max_watchers may wait on one server.
MAX_WAITERS = 50


class Case(NamedTuple):
    """One call.

    Attributes:
        method: Of the namespace ``cache``.
        what: What makes it heavy.
        params: Builds the XML of its parameters.
        state: What the cache holds before; see `benchmarks.states`.
        writes: Whether that has to be made anew before each call.
        pause: Seconds between that and the call.
        waiters: How many clients wait for any change at all.
    """

    method: str
    what: str
    params: Callable[[], str]
    state: str
    writes: bool = False
    pause: float = 0
    waiters: int = 0


def waiting(since: str) -> bytes:
    """Build the request of a client that waits for any change after ``since``."""
    return request(body("cache.wait", f"<param><v>{since}</v></param><param><value><int>60</int></value></param>"))


_EMPTY = "empty"
_FULL = "10,000 short entries"
_HEAP = "16 MB of nested arrays"
_NESTED = "one value of 32,000 arrays"
_LISTED = "10,000 keys of 71 bytes"
_LONG = "10,000 keys of 1 KB"
_COMMITS = "10,000 short entries, each a commit"
_ENDING = "10,000 short entries that end at once"
_COMMON = f"<param><v>{LONG_PREFIX}</v></param>"
_NOTHING = "<param><v>zzzz</v></param>"
_KEY = "<param><v>a</v></param>"
_ONE = "<param><value><int>1</int></value></param>"
_ONE_HOUR = "<param><value><int>3600</int></value></param>"
_NO_PREFIX = "<param><string/></param>"
_FIRST = _NO_PREFIX * 2 + _ONE
_AT_ONCE = "<param><value><int>0</int></value></param>"
_MOST_CHANGES = "<param><value><int>1980</int></value></param>"
_AFTER = f"<param><v>{SINCE}</v></param>"
_TTL = "<param><struct><m><n>ttl</n><int>3600</int></m></struct></param>"
_IF_CHANGED = "<param><struct><m><n>if_changed</n><boolean>1</boolean></m></struct></param>"
_CHAIN = "<data>" * CHAIN_DEPTH + "</data>" * CHAIN_DEPTH
_TEN_ARRAYS = "<data>" + "<data/>" * 9 + "</data>"


def _none() -> str:
    return ""


def _is(text: str) -> Callable[[], str]:
    return lambda: text


def _nested(before: str = _KEY, after: str = "") -> Callable[[], str]:
    return lambda: f"{before}<param><data>{_CHAIN * CHAINS}</data></param>{after}"


def _many(element: str) -> Callable[[], str]:
    """A value, too large, of as many ``element`` as a request carries."""
    return lambda: f"{_KEY}<param><data>{element * (MAX_PARAMS // len(element) - 20)}</data></param>"


def _long_string() -> str:
    return f"<param><v>{'x' * (MAX_PARAMS - 100)}</v></param>"


def _stored_long_string() -> str:
    return _KEY + _long_string()


def _keys(keys: Callable[[], list[str]]) -> Callable[[], str]:
    return lambda: f"<param><data>{''.join(f'<v>{key}</v>' for key in keys())}</data></param>"


_TOO_MANY_KEYS = _keys(lambda: short_keys(MAX_PARAMS // 10 - 20))
_SHORT_KEYS = _keys(lambda: short_keys(MAX_ENTRIES))
_LISTED_KEYS = _keys(listable_keys)
# As many as a request carries.
_LONG_KEYS = _keys(lambda: long_keys(1000))


def _heap_keys() -> str:
    return "<param><data>" + "".join(f"<v>h{number}</v>" for number in range(255)) + "</data></param>"


def _items(count: int, value: str, options: str = "", last: str = "", before: str = "") -> Callable[[], str]:
    def build() -> str:
        members = [f"<m><n>{before}{key}</n>{value}</m>" for key in short_keys(count)]
        return f"<param><struct>{''.join(members)}{last}</struct></param>{options}"

    return build


_NIL = "<m><n>nil</n><nil/></m>"
_TOO_MANY = _items(MAX_PARAMS // 25 - 40, "<v>1</v>")

READS = [
    Case("getKeys", "all", _none, _LISTED),
    Case("getKeys", "too many for a reply", _none, _LONG),
    Case("getKeys", "a prefix of 1 MB", _long_string, _FULL),
    Case("getCount", "", _none, _FULL),
    Case("getCount", "all due", _none, _ENDING, writes=True, pause=TTL_SECONDS * 1.2),
    Case("getRevision", "", _none, _FULL),
    Case("getStats", "", _none, _FULL),
    Case("fetch", "", _is(_KEY), _NESTED),
    Case("fetch", "", _is(_KEY), "one value of 32,000 integers"),
    Case("fetch", "", _is(_KEY), "one value of 21,800 strings"),
    Case("fetch", "a key of 1 MB", _long_string, _FULL),
    Case("fetchMany", "10,000 keys, all there", _SHORT_KEYS, _FULL),
    Case("fetchMany", "10,000 keys, 2,000 there", _SHORT_KEYS, "2,000 entries of 10 arrays"),
    Case("fetchMany", "10,000 keys of 71 bytes, all there", _LISTED_KEYS, _LISTED),
    Case("fetchMany", "10,000 keys of 71 bytes, none there", _LISTED_KEYS, _EMPTY),
    Case("fetchMany", "1,000 keys of 1 KB", _LONG_KEYS, _LONG),
    Case("fetchMany", "104,000 keys, refused", _TOO_MANY_KEYS, _FULL),
    Case("getItems", "", _none, "2,000 entries of 10 arrays"),
    Case("getItems", "limit 1", _is(_FIRST), _NESTED),
    Case("getEntry", "", _is(_KEY), _NESTED),
    Case("getEntries", "", _none, "1,350 short entries"),
    Case("getEntries", "limit 1", _is(_FIRST), _NESTED),
    Case("getChanges", "1,980 changes, just under 1 MB", _is(_AFTER + _NO_PREFIX + _MOST_CHANGES), _COMMITS),
    Case("getChanges", "too many for a reply", _is(_AFTER), _COMMITS),
    Case("getChanges", "a prefix that matches nothing", _is(_AFTER + _NOTHING), _COMMITS),
    Case("wait", "a prefix that matches nothing, timeout 0", _is(_AFTER + _AT_ONCE + _NOTHING), _COMMITS),
]

STORES = [
    Case("store", "32,000 arrays", _nested(), _EMPTY, writes=True),
    Case("store", "32,000 arrays, equal, if_changed", _nested(after=_IF_CHANGED), _NESTED),
    Case("store", "149,000 arrays, refused", _many("<data/>"), _EMPTY),
    Case("store", "131,000 strings, refused", _many("<value/>"), _EMPTY),
    Case("store", "a string of 1 MB, refused", _stored_long_string, _EMPTY),
    Case("storeMany", "10,000 new entries", _items(MAX_ENTRIES, "<v>1</v>"), _EMPTY, writes=True),
    Case("storeMany", "10,000 entries replaced", _items(MAX_ENTRIES, "<v>2</v>"), _FULL, writes=True),
    Case("storeMany", "10,000 equal entries, if_changed", _items(MAX_ENTRIES, "<v>1</v>", _IF_CHANGED), _FULL),
    Case("storeMany", "10,000 new entries of 10 arrays", _items(MAX_ENTRIES, _TEN_ARRAYS), _EMPTY, writes=True),
    Case("storeMany", "10,000 new entries with a ttl", _items(MAX_ENTRIES, "<v>1</v>", _TTL), _EMPTY, writes=True),
    Case(
        "storeMany", "10,000 entries with a ttl replaced", _items(MAX_ENTRIES, "<v>1</v>", _TTL), _ENDING, writes=True
    ),
    Case("storeMany", "1,000 keys of 1 KB", _items(1000, "<v>1</v>", before=LONG_PREFIX), _EMPTY, writes=True),
    Case("storeMany", "10,000 entries, the last refused", _items(MAX_ENTRIES - 1, "<v>1</v>", last=_NIL), _EMPTY),
    Case("storeMany", "41,900 entries, refused", _TOO_MANY, _EMPTY),
    Case("add", "32,000 arrays, there already", _nested(), _NESTED),
    Case("add", "32,000 arrays", _nested(), _EMPTY, writes=True),
    Case("storeIf", "32,000 arrays, another revision", _nested(after=_KEY.replace(">a<", ">1<")), _NESTED),
    Case("touch", "", _is(_KEY + _ONE_HOUR), _NESTED),
    Case("touch", "", _is(_KEY + _ONE_HOUR), "one value of 32,000 integers"),
    Case("increment", "wrong type", _is(_KEY), _NESTED),
    Case("increment", "a new key", _is(_NOTHING + _ONE), "10,000 keys of 71 bytes"),
]

DELETES = [
    Case("delete", "", _is(_KEY), _NESTED, writes=True),
    Case("deleteIf", "another revision", _is(_KEY + "<param><v>1</v></param>"), _NESTED),
    Case("deleteMany", "10,000 keys, all there", _SHORT_KEYS, _FULL, writes=True),
    Case("deleteMany", "10,000 keys of 71 bytes, all there", _LISTED_KEYS, _LISTED, writes=True),
    Case("deleteMany", "10,000 keys of 71 bytes, none there", _LISTED_KEYS, _EMPTY),
    Case("deleteMany", "1,000 keys of 1 KB", _LONG_KEYS, _LONG, writes=True),
    Case("deleteMany", "104,000 keys, refused", _TOO_MANY_KEYS, _FULL),
    Case("deletePrefix", "all", _is(_COMMON), _LONG, writes=True),
    Case("deletePrefix", f"all, {MAX_WAITERS} waiting", _is(_COMMON), _LONG, writes=True, waiters=MAX_WAITERS),
    Case("clear", "", _none, _FULL, writes=True),
]

# Filling takes seconds each time.
HEAVY = [
    Case("deleteMany", "all", _heap_keys, _HEAP, writes=True),
    Case("deletePrefix", "all", _is("<param><v>h</v></param>"), _HEAP, writes=True),
    Case("clear", "", _none, _HEAP, writes=True),
]
