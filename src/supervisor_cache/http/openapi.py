"""The description of the JSON interface, in OpenAPI 3.1."""

from typing import Any

from supervisor_cache.core.keys import MAX_KEY_BYTES, MAX_NOTE_BYTES
from supervisor_cache.core.limits import MAX_REPLY_ENTRIES
from supervisor_cache.core.options import MAX_TIMEOUT, MAX_TTL
from supervisor_cache.core.values import MAX_INT, MIN_INT
from supervisor_cache.http.replies import REASONS, Reply, answer

Schema = dict[str, Any]

_REVISION: Schema = {"type": "string", "pattern": "^[0-9]{1,20}$"}
_CONDITION: Schema = {"type": "string", "pattern": "^[0-9]{0,20}$", "description": "Empty: there must be no entry."}
_NUMBER_OF_SECONDS: Schema = {"type": "number", "minimum": 0}
# Without control characters; what more is refused (surrogates, U+FFFE) no JSON in UTF-8 can say, or nobody types.
_LINE = "^[^\\u0000-\\u001f\\ufffe\\uffff]*$"
_KEY: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES, "pattern": _LINE}
_NOTE: Schema = {"type": "string", "maxLength": MAX_NOTE_BYTES, "pattern": _LINE}
_TTL: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TTL}
_VALUE: Schema = {
    "description": "A string, boolean, integer of 32 bits, finite number, array or object; a date is "
    '{"$dateTime": "2026-11-03T12:00:00"}. Not null; at most 32 deep.',
    "not": {"type": "null"},
}
_OWNER: Schema = {"type": "string", "description": "GROUP:NAME of a running process; empty for none."}


_COUNT: Schema = {"type": "number", "minimum": 0}
_STATS: dict[str, Schema] = {
    "namespace": {"type": "string"},
    "identification": {"type": "string"},
    "entries": _COUNT,
    "bytes": _COUNT,
    "revision": _REVISION,
    "limits": {"type": "object", "additionalProperties": _COUNT, "description": "By the option that sets each."},
    "storage": {
        "type": "object",
        "required": ["kind", "state", "detail"],
        "properties": {
            "kind": {"enum": ["memory", "sqlite", "etcd"]},
            "state": {"enum": ["ok", "recovered", "degraded", "unavailable"]},
            "detail": {"type": "string", "description": "What is wrong, or was; empty for nothing."},
        },
    },
    "settings_error": {"type": "string"},
    "read_only": {"type": "array", "items": {"type": "string"}},
    **dict.fromkeys(
        ["hits", "misses", "writes", "refused", "expired", "published", "publications_dropped", "watchers", "uptime"],
        _COUNT,
    ),
    "history": {
        "type": "object",
        "required": ["changes", "bytes", "since"],
        "properties": {"changes": _COUNT, "bytes": _COUNT, "since": _REVISION},
        "additionalProperties": False,
    },
    "server": {"type": "string", "description": "The section of the server that answers."},
    "writable": {"type": "boolean"},
    "confined": {"type": "boolean"},
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: list[str], /, **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


_OPTIONS: dict[str, Schema] = {
    "ttl": _TTL,
    "owner": _OWNER,
    "pid": {"type": "integer", "minimum": 1, "maximum": MAX_INT},
    "note": _NOTE,
    "if_changed": {"type": "boolean"},
}
_ENTRY: dict[str, Schema] = {
    "key": {"type": "string"},
    "value": _VALUE,
    "revision": _REVISION,
    "modified": {"type": "number", "description": "Seconds since the epoch."},
    "expires": {"type": "number", "description": "Seconds since the epoch; 0 for never."},
    "owner": {"type": "string"},
    "note": {"type": "string"},
}
_CHANGE: dict[str, Schema] = {
    "revision": _REVISION,
    "kind": {"enum": ["store", "touch", "delete", "expire", "release", "clear"]},
    "key": {"type": "string", "description": "Empty for clear."},
    "modified": {"type": "number"},
    "note": {"type": "string"},
    "via": {"type": "string"},
}
_SCHEMAS: dict[str, Schema] = {
    "Entry": _object(list(_ENTRY), **_ENTRY),
    "Change": _object(list(_CHANGE), **_CHANGE),
    "Event": _object(
        [*_CHANGE, "entry"],
        **_CHANGE,
        entry={
            "description": "The entry as it is afterwards, null where there is none. A large value is left out.",
            "anyOf": [{"type": "null"}, _object([name for name in _ENTRY if name != "value"], **_ENTRY)],
        },
    ),
    "Stats": _object(list(_STATS), **_STATS),
    "Written": _object(["key", "revision"], key={"type": "string"}, revision=_REVISION),
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"const": "about:blank"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "fault": {"type": "string", "description": "The name of the XML-RPC fault."},
            "code": {"type": "integer", "description": "Its code."},
            "keys": {"type": "array", "items": {"type": "string"}},
        },
        "additionalProperties": False,
    },
}


def _parameter(name: str, schema: Schema, text: str = "", place: str = "query", *, required: bool = False) -> Schema:
    made: Schema = {"name": name, "in": place, "schema": schema, "required": required}
    return {**made, "description": text} if text else made


_PREFIX = _parameter("prefix", {"type": "string", "maxLength": MAX_KEY_BYTES, "pattern": _LINE}, "Keys that start so.")
_LIMIT = _parameter("limit", {"type": "integer", "minimum": 0, "maximum": MAX_REPLY_ENTRIES}, "0: 500.")
_SINCE = {"type": "string", "pattern": "^[0-9]{0,20}$"}
_KEY_IN_PATH = _parameter(
    "key", _KEY, "Percent-encoded; its / may be literal. Keys with empty, . or .. segments go in ?key=", "path",
    required=True,
)  # fmt: skip
_KEY_IN_QUERY = _parameter("key", _KEY, required=True)
_TAG = '(W/)?"[!#-~]*"'
_TAGS: Schema = {"type": "string", "pattern": rf"^(\*|{_TAG}(, {_TAG})*)$"}
_IF_MATCH = _parameter("If-Match", _TAGS, '"REVISION", or * for any.', "header")
_IF_NONE_MATCH = _parameter("If-None-Match", _TAGS, '"REVISION", or *.', "header")
_OPTION_PARAMETERS = [_parameter(name, schema) for name, schema in _OPTIONS.items()]

_ETAG = {"ETag": {"schema": {"type": "string"}, "description": '"REVISION"'}}


def _json(schema: Schema, text: str, headers: Schema | None = None) -> Schema:
    made: Schema = {"description": text, "content": {"application/json": {"schema": schema}}}
    return {**made, "headers": headers} if headers else made


# What is refused, on whatever path, before anybody looks at it. A write from another site is, too: see 403 of each.
_PLAIN = {"text/html": {"schema": {"type": "string"}}}
_REFUSED = {
    400: REASONS[400],
    401: "User or password missing or wrong.",
    411: REASONS[411],
    413: REASONS[413],
    421: "Its Host is no name of this server.",
}


def _problems(*statuses: int) -> Schema:
    own = {400, 503, *statuses}
    return {
        str(status): {
            "description": REASONS[status] if status in own else _REFUSED[status],
            "content": {
                **({"application/problem+json": {"schema": _ref("Problem")}} if status in own else {}),
                **(_PLAIN if status in {403, *_REFUSED} else {}),
            },
        }
        for status in sorted(own | _REFUSED.keys())
    }


def _operation(
    name: str, summary: str, parameters: list[Schema], responses: Schema, body: Schema | None = None
) -> Schema:
    made: Schema = {"operationId": name, "summary": summary, "parameters": parameters, "responses": responses}
    return {**made, "requestBody": {"required": True, "content": body}} if body else made


def _entry_operations(key: Schema, suffix: str) -> Schema:
    written = _json(_ref("Written"), "Stored.", _ETAG)
    any_text = {"schema": {"type": "string"}}
    return {
        "get": _operation(
            f"getEntry{suffix}", "An entry with all that is known of it.", [key, _IF_NONE_MATCH],
            {"200": _json(_ref("Entry"), "The entry.", _ETAG), "304": {"description": REASONS[304]}, **_problems(404)},
        ),
        "put": _operation(
            f"store{suffix}", "Store a value: JSON where the type says so, else the string itself.",
            [key, *_OPTION_PARAMETERS, _IF_MATCH, _IF_NONE_MATCH],
            {
                "200": {**written, "description": "There was an entry."},
                "201": {**written, "description": "There was none."},
                **_problems(403, 411, 412, 413, 415, 504, 507),
            },
            {"application/json": {"schema": _VALUE}, "text/plain": any_text},
        ),
        "delete": _operation(
            f"delete{suffix}", "Delete an entry, also where there is none.",
            [key, _parameter("note", _NOTE), _IF_MATCH],
            {"204": {"description": "It is not there any more."}, **_problems(403, 412, 504)},
        ),
    }  # fmt: skip


def _value_operations(key: Schema, suffix: str) -> Schema:
    content = {"text/plain": {"schema": {"type": "string"}}, "application/json": {"schema": _VALUE}}
    return {
        "get": _operation(
            f"getValue{suffix}", "The bare value: a string as text, anything else as JSON.", [key, _IF_NONE_MATCH],
            {
                "200": {"description": "The value.", "content": content, "headers": _ETAG},
                "304": {"description": REASONS[304]},
                **_problems(404),
            },
        )
    }  # fmt: skip


def _post(name: str, summary: str, body: Schema, done: Schema, *statuses: int) -> Schema:
    parameters = [_IF_MATCH] if name == "touch" else []
    responses = {"200": done, **_problems(403, 411, 413, 415, 504, 507, *statuses)}
    return {"post": _operation(name, summary, parameters, responses, {"application/json": {"schema": body}})}


_STREAM = {
    "get": _operation(
        "stream",
        "Changes as they happen, as server-sent events: one for each revision, an array of Event as data, the revision "
        "as id. An event named reset says that changes have been missed, and from which revision on they are told.",
        [
            _PREFIX,
            _parameter("since", _SINCE, "Begin after this revision; empty for now."),
            _parameter("Last-Event-ID", _SINCE, "The same, from a client that comes back.", "header"),
        ],
        {
            "200": {
                "description": "It does not end.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **_problems(429),
        },
    )
}

_PATHS: dict[str, Schema] = {
    "/v1/entries": {
        "get": _operation(
            "listEntries",
            "Entries in code-point order of their keys, a page at a time; with key, that entry alone.",
            [
                _PREFIX, _parameter("after", {"type": "string", "maxLength": MAX_KEY_BYTES, "pattern": _LINE}), _LIMIT,
                _parameter("key", _KEY, "Goes with none of the others."), _IF_NONE_MATCH,
            ],
            {
                "200": _json(
                    {
                        "anyOf": [
                            _object(
                                ["revision", "entries", "next"],
                                revision=_REVISION,
                                entries={"type": "array", "items": _ref("Entry")},
                                next={"type": ["string", "null"], "description": "The next after; null at the end."},
                            ),
                            _ref("Entry"),
                        ]
                    },
                    "A page, or the entry.",
                ),
                "304": {"description": REASONS[304]},
                **_problems(404),
            },
        ),
        **{
            method: operation
            for method, operation in _entry_operations(_KEY_IN_QUERY, "ByQuery").items()
            if method != "get"
        },
    },
    "/v1/entries/{key}": _entry_operations(_KEY_IN_PATH, ""),
    "/v1/values/{key}": _value_operations(_KEY_IN_PATH, ""),
    "/v1/values": _value_operations(_KEY_IN_QUERY, "ByQuery"),
    "/v1/increment": _post(
        "increment", "Add to an integer; a missing one counts as 0.",
        _object(["key"], key=_KEY, delta={"type": "integer", "minimum": MIN_INT, "maximum": MAX_INT}, **_OPTIONS),
        _json(
            _object(
                ["key", "value", "revision"],
                key={"type": "string"}, value={"type": "integer"}, revision=_REVISION,
            ),
            "The new value.", _ETAG,
        ),
        409,
    ),
    "/v1/touch": _post(
        "touch", "Have an entry end in ttl seconds from now; 0: not by itself.",
        _object(
            ["key", "ttl"], key=_KEY, ttl={**_NUMBER_OF_SECONDS, "maximum": MAX_TTL},
            owner=_OWNER, pid=_OPTIONS["pid"], note=_NOTE,
        ),
        _json(_ref("Written"), "Done.", _ETAG),
        404, 412,
    ),
    "/v1/batch": _post(
        "batch", "Store and delete several entries, all or none.",
        _object(
            [],
            store={"type": "object", "propertyNames": _KEY, "additionalProperties": _VALUE},
            delete={"type": "array", "items": _KEY},
            **{"if": {"type": "object", "propertyNames": _KEY, "additionalProperties": _CONDITION}},
            options=_object([], **_OPTIONS),
        ),
        _json(_object(["revision"], revision=_REVISION), "Done, or nothing had to be."),
        412,
    ),
    "/v1/changes": {
        "get": _operation(
            "changes", "Changes, oldest first, always whole revisions.",
            [
                _parameter("since", _SINCE, "After this revision; empty for now."), _PREFIX, _LIMIT,
                _parameter(
                    "wait", {**_NUMBER_OF_SECONDS, "maximum": MAX_TIMEOUT}, "Seconds to wait for one, if there is none."
                ),
            ],
            {
                "200": _json(
                    _object(
                        ["revision", "changes"],
                        revision={**_REVISION, "description": "What to ask for as since."},
                        changes={"type": "array", "items": _ref("Change")},
                    ),
                    "The changes.",
                ),
                **_problems(410, 413, 429),
            },
        )
    },
    "/v1/stream": _STREAM,
    "/v1/stats": {
        "get": _operation(
            "stats", "Size, limits, storage and counters.", [],
            {"200": _json(_ref("Stats"), "As getStats has them, and server, writable, confined."), **_problems()},
        )
    },
    "/metrics": {
        "get": _operation(
            "metrics", "The same in OpenMetrics.", [],
            {
                "200": {
                    "description": "The metrics.",
                    "content": {"application/openmetrics-text": {"schema": {"type": "string"}}},
                },
                **_problems(),
            },
        )
    },
    "/v1/openapi.json": {
        "get": _operation("openapi", "This description.", [], {"200": _json({"type": "object"}, "It."), **_problems()})
    },
}  # fmt: skip


def reply(namespace: str) -> Reply:
    """Answer the description for one cache."""
    return answer(
        200,
        {
            "openapi": "3.1.0",
            "info": {
                "title": f"supervisor_cache: {namespace}",
                "version": "2.0",
                "description": "Small runtime markers inside supervisord.",
            },
            # From where this is: a proxy may have it under another path.
            "servers": [{"url": f"../../{namespace}"}],
            "paths": _PATHS,
            # Where the server has a user and a password.
            "security": [{}, {"login": []}],
            "components": {
                "schemas": _SCHEMAS,
                "securitySchemes": {"login": {"type": "http", "scheme": "basic"}},
            },
        },
    )
