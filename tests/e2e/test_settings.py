"""A wrong section stops supervisord at start, where an operator sees it, and never at a reload."""

import os
import subprocess
from pathlib import Path
from xmlrpc.client import Fault

import pytest

from tests.conftest import StartSupervisord, missing
from tests.harness import OWN_BINARIES, START_SECONDS, Supervisord, program, until

ROOT = Path(__file__).parents[2]

SIZE = "must be a size from {}, as 1000, 64KB or 16MB"
SERVERS = "must name HTTP servers of this configuration: inet_http_server, unix_http_server"
WRONG = [
    (
        "read_onyl",
        "inet_http_server",
        "unknown option; known are allowed_hosts, chmod, chown, confine, etcd_ca_file, etcd_cert_file",
    ),
    ("storage", "redis", "must be memory, sqlite:PATH or etcd://HOST:PORT[,HOST:PORT...]/PREFIX"),
    ("storage", "", "must be memory, sqlite:PATH or etcd://HOST:PORT[,HOST:PORT...]/PREFIX"),
    ("max_entries", "many", "must be a whole number from 1 to 1000000"),
    ("max_entries", "0", "must be a whole number from 1 to 1000000"),
    ("max_entries", "-5", "must be a whole number from 1 to 1000000"),
    ("max_entries", "10KB", "must be a whole number from 1 to 1000000"),
    ("max_key_bytes", "1TB", SIZE.format("1 to 64KB")),
    ("max_value_bytes", "64 KB", SIZE.format("1 to 16MB")),
    ("max_value_bytes", "1GB", SIZE.format("1 to 16MB")),
    ("max_total_bytes", "5", SIZE.format("1KB to 1GB")),
    ("max_request_bytes", "1KB", SIZE.format("4KB to 64MB")),
    ("read_only", "inet", SERVERS),
    ("read_only", "inet_http_server, nginx", SERVERS),
    ("allowed_hosts", "https://ops.example.com", "must be host names, as ops.example.com or ops.example.com:8443"),
    ("log_changes", "maybe", "must be true or false"),
    ("metrics_prefix", "a\tb", "must be what keys start with, as metrics/"),
    ("publish", "web", "must be patterns of GROUP:NAME, as web:* or worker:worker_00"),
]
NAMES = [
    ("supervisor2", ""),
    ("system", "the name is one that Supervisor uses itself; choose another"),
    ("RPC2", "the name is one that Supervisor uses itself; choose another"),
    ("logtails", "the name is one that Supervisor uses itself; choose another"),
    ("items", "the name would break system.multicall; choose another"),
    ("my cache", "the name must be a letter, then letters, digits, _ and -"),
    ("1st", "the name must be a letter, then letters, digits, _ and -"),
    ("caché", "the name must be a letter, then letters, digits, _ and -"),
]


def criticals(supervisord: Supervisord) -> list[str]:
    return [line for line in supervisord.log.splitlines() if "CRIT supervisor_cache" in line]


@pytest.mark.tracebacks
@pytest.mark.parametrize(("option", "value", "allowed"), WRONG)
def test_a_wrong_option_stops_supervisord_at_start(
    make_supervisord: StartSupervisord, option: str, value: str, allowed: str
) -> None:
    supervisord = make_supervisord({"cache": {option: value}})
    ended = supervisord.run()
    line = f"rpcinterface:cache] {option} = {value!r}: {allowed}"
    assert ended.returncode == 2
    assert ended.stderr.count(line) == 1, ended.stderr
    assert supervisord.log.count(f"CRIT supervisor_cache: [{line}") == 1


STORAGE = "must be memory, sqlite:PATH or etcd://HOST:PORT[,HOST:PORT...]/PREFIX"
ETCD = {"storage": "etcd://h1:2379,h2:2379/a/b"}
PASSWORD = {"etcd_user": "me", "etcd_password_file": "secret"}
TLS = {"etcd_ca_file": "ca.pem", "etcd_cert_file": "cert.pem", "etcd_key_file": "key.pem"}
# Options, and what is said of them; relative paths start from the folder of the configuration, where ``secret`` can be
# read by its owner alone, ``open`` by all, and ``ca.pem``, ``cert.pem`` and ``key.pem`` are there.
OF_ETCD: list[tuple[dict[str, str], str]] = [
    *(
        ({"storage": f"etcd:{place}"}, f"storage = 'etcd:{place}': {STORAGE}")
        for place in (
            "",
            "//",
            "h:2379/a",
            "//h:2379",
            "//h:2379/",
            "//h/a",
            "//h:0/a",
            "//h:65536/a",
            "//h:port/a",
            "//:2379/a",
            "//h:1,/a",
            "//h:1,,g:2/a",
            "//h:1,h:1/a",
            "//me@h:1/a",
            "//h:1//a",
            "//h:1/a//b",
            "//h:1/a b",
            "//h:1/a?b",
            "//[::1/a",
        )
    ),
    # A text is shown up to a length.
    ({"storage": f"etcd://h:1/{'a' * 201}"}, "storage = 'etcd://h:1/aaa"),
    ({**ETCD, "etcd_timeout": "0.1"}, "etcd_timeout = '0.1': must be a number of seconds from 0.5 to 60"),
    ({**ETCD, "etcd_timeout": "61"}, "etcd_timeout = '61': must be a number of seconds from 0.5 to 60"),
    ({**ETCD, "etcd_timeout": "nan"}, "etcd_timeout = 'nan': must be a number of seconds from 0.5 to 60"),
    ({**ETCD, "etcd_lease_ttl": "4"}, "etcd_lease_ttl = '4': must be a whole number from 5 to 3600"),
    ({**ETCD, "etcd_lease_ttl": "15s"}, "etcd_lease_ttl = '15s': must be a whole number from 5 to 3600"),
    ({**ETCD, "etcd_ca_file": "none"}, "etcd_ca_file = 'none': must be a file that can be read: No such file"),
    ({**ETCD, "etcd_ca_file": "."}, "etcd_ca_file = '.': must be a file that can be read: Is a directory"),
    ({**ETCD, "etcd_ca_file": ""}, "etcd_ca_file = '': must be the path of a file"),
    ({**ETCD, **TLS, "etcd_cert_file": "none"}, "etcd_cert_file = 'none': must be a file that can be read: No such"),
    ({**ETCD, **TLS, "etcd_key_file": "none"}, "etcd_key_file = 'none': must be a file that can be read: No such file"),
    ({**ETCD, "etcd_ca_file": "ca.pem", "etcd_key_file": "key.pem"}, "etcd_key_file: needs etcd_cert_file"),
    ({**ETCD, "etcd_cert_file": "cert.pem"}, "etcd_cert_file: needs etcd_ca_file"),
    ({**ETCD, "etcd_user": "me"}, "etcd_user and etcd_password_file: each needs the other"),
    ({**ETCD, "etcd_password_file": "secret"}, "etcd_user and etcd_password_file: each needs the other"),
    ({**ETCD, **PASSWORD, "etcd_user": ""}, "etcd_user = '': must be the name of a user of etcd"),
    ({**ETCD, **PASSWORD, "etcd_password_file": "open"}, "etcd_password_file = 'open': must be a file that only its"),
    ({**ETCD, **PASSWORD, "etcd_password_file": "none"}, "etcd_password_file = 'none': must be a file that can be"),
    ({**ETCD, "mirror": ""}, "mirror = '': must be the path of a file"),
    ({**ETCD, "mirror": "folder/"}, "mirror = 'folder/': must be the path of a file"),
    ({**ETCD, "mirrors": "m.db"}, "mirrors = 'm.db': unknown option"),
    ({"mirror": "m.db"}, "mirror: goes with storage = etcd://HOST:PORT/PREFIX alone"),
    ({"storage": "sqlite:c.db", "mirror": "m.db"}, "mirror: goes with storage = etcd://HOST:PORT/PREFIX alone"),
    ({"etcd_timeout": "3"}, "etcd_timeout: goes with storage = etcd://HOST:PORT/PREFIX alone"),
    ({"storage": "sqlite:c.db", **PASSWORD}, "etcd_user: goes with storage = etcd://HOST:PORT/PREFIX alone"),
]  # fmt: skip


def put_files(folder: Path) -> None:
    """Have the files there that the options above name."""
    for name in ("ca.pem", "cert.pem", "key.pem", "open", "secret"):
        (folder / name).write_text("x\n")
        (folder / name).chmod(0o600 if name == "secret" else 0o644)


def checked(supervisord: Supervisord) -> subprocess.CompletedProcess[str]:
    """Have the command judge a configuration."""
    supervisord.write_configuration()
    command = [str(OWN_BINARIES / "supervisor-cache"), "config", "--check", str(supervisord.configuration)]
    return subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)


@pytest.mark.tracebacks
@pytest.mark.parametrize(("options", "told"), OF_ETCD)
def test_what_is_wrong_about_etcd_stops_supervisord_at_start_and_is_seen_before(
    make_supervisord: StartSupervisord, options: dict[str, str], told: str
) -> None:
    supervisord = make_supervisord({"cache": options})
    put_files(supervisord.folder)
    line = f"[rpcinterface:cache] {told}"
    found = checked(supervisord)
    assert found.returncode == 1
    assert f"ERROR ({line}" in found.stderr
    ended = supervisord.run()
    assert ended.returncode == 2
    assert ended.stderr.count(f"Error: {line}") == 1, ended.stderr
    assert supervisord.log.count(f"CRIT supervisor_cache: {line}") == 1


def test_what_is_right_about_etcd_is_taken(make_supervisord: StartSupervisord) -> None:
    section = {**ETCD, **TLS, **PASSWORD, "mirror": "m.db", "etcd_timeout": "0.5", "etcd_lease_ttl": "3600"}
    supervisord = make_supervisord({"cache": {**section, "storage": "etcd://127.0.0.1:1,[::1]:1/a/b/"}})
    put_files(supervisord.folder)
    found = checked(supervisord)
    assert (found.returncode, found.stdout) == (
        0,
        "[rpcinterface:cache] is all right: storage etcd://127.0.0.1:1,[::1]:1/a/b\n",
    )
    # That those are no certificates is seen where they are used.
    supervisord.start()
    until(lambda: "etcd_ca_file cannot be used" in supervisord.storage()["detail"], "it is told")


@pytest.mark.tracebacks
@pytest.mark.parametrize("option", ["etcd_ca_file", "etcd_password_file"])
def test_a_pipe_is_no_file_and_nobody_waits_for_it(make_supervisord: StartSupervisord, option: str) -> None:
    supervisord = make_supervisord({"cache": {**ETCD, **PASSWORD, option: "pipe"}})
    put_files(supervisord.folder)
    os.mkfifo(supervisord.folder / "pipe", 0o600)
    assert f"{option} = 'pipe': must be a regular file" in supervisord.run().stderr


@pytest.mark.tracebacks
def test_a_password_file_of_another_user_is_refused(make_supervisord: StartSupervisord) -> None:
    if os.geteuid() != 0:
        missing("root, who alone gives files away,")
    supervisord = make_supervisord({"cache": {**ETCD, **PASSWORD}})
    put_files(supervisord.folder)
    os.chown(supervisord.folder / "secret", 12345, 12345)
    assert "etcd_password_file = 'secret': must belong to root or to supervisord's user" in supervisord.run().stderr


@pytest.mark.tracebacks
@pytest.mark.parametrize(("name", "allowed"), NAMES)
def test_a_name_that_would_not_work_stops_supervisord_at_start(
    make_supervisord: StartSupervisord, name: str, allowed: str
) -> None:
    supervisord = make_supervisord({name: {}})
    if not allowed:
        supervisord.start()
        assert supervisord.unix().system.multicall([{"methodName": f"{name}.getCount", "params": []}]) == [0]
        return
    ended = supervisord.run()
    shown = ascii(name)[1:-1]
    assert ended.returncode == 2
    assert f"Error: [rpcinterface:{shown}]: {allowed}" in ended.stderr


@pytest.mark.tracebacks
def test_everything_that_is_wrong_is_said_at_once(make_supervisord: StartSupervisord) -> None:
    ended = make_supervisord({"one": {"max_entries": "x", "log_changes": "y"}, "two": {"storage": "z"}}).run()
    lines = [line for line in ended.stderr.splitlines() if line.startswith("Error: [rpcinterface:")]
    assert [line.split(" = ")[0] for line in lines] == [
        "Error: [rpcinterface:one] max_entries",
        "Error: [rpcinterface:one] log_changes",
        "Error: [rpcinterface:two] storage",
    ]


@pytest.mark.parametrize(
    ("daemon", "option", "value", "allowed"),
    [(False, *row) for row in WRONG] + [(True, *row) for row in WRONG[:1] + WRONG[3:4]],
)
def test_a_wrong_option_at_a_reload_keeps_supervisord_its_processes_and_the_old_settings(
    start: StartSupervisord, daemon: bool, option: str, value: str, allowed: str
) -> None:
    supervisord = start({"cache": {"max_entries": "2"}}, program("sleeper"), daemon=daemon)
    pid = supervisord.pid
    supervisord.unix().cache.storeMany({"a": 1, "b": 2})
    supervisord.sections["cache"] = {option: value}
    supervisord.reload()
    assert supervisord.pid == pid
    until(lambda: supervisord.unix().supervisor.getProcessInfo("sleeper")["statename"] == "RUNNING", "sleeper runs")
    assert supervisord.inet().cache.getItems() == {"a": 1, "b": 2}
    with pytest.raises(Fault, match="max_entries is 2"):
        supervisord.unix().cache.store("c", 3)
    (critical,) = criticals(supervisord)
    assert f"[rpcinterface:cache] {option} = {value!r}: {allowed}" in critical
    assert critical.endswith("the settings and the data of before stay in force")
    assert f"{option} = {value!r}" in supervisord.unix().cache.getStats()["settings_error"]
    supervisord.sections["cache"] = {"max_entries": "3"}
    supervisord.reload()
    assert supervisord.unix().cache.store("c", 3) is True
    assert supervisord.unix().cache.getStats()["settings_error"] == ""


# What Supervisor's call of the factory passes by position, under the names that Python functions give it.
PARAMETERS = ["supervisord", "self", "factory", "options"]


@pytest.mark.tracebacks
@pytest.mark.parametrize("name", PARAMETERS)
def test_an_option_named_like_a_parameter_is_an_unknown_option_like_any_other(
    make_supervisord: StartSupervisord, name: str
) -> None:
    ended = make_supervisord({"cache": {name: "1"}}).run()
    assert ended.returncode == 2
    lines = [line for line in ended.stderr.splitlines() if name in line and line.startswith("Error: [")]
    assert len(lines) == 1
    assert lines[0].startswith(f"Error: [rpcinterface:cache] {name} = '1': unknown option; known are allowed_hosts, ")
    assert "TypeError" not in ended.stderr


def test_a_protected_server_that_is_renamed_without_its_section_stays_protected(start: StartSupervisord) -> None:
    protection = {"confine": "inet_http_server", "read_only": "inet_http_server"}
    supervisord = start({"cache": {"http": "true", **protection}}, program("sleeper"))
    supervisord.unix().cache.store("k", 1)

    def assert_protected() -> None:
        inet = supervisord.inet()
        assert inet.cache.fetch("k") == 1
        with pytest.raises(Fault, match="READ_ONLY"):
            inet.cache.store("k", 2)
        with pytest.raises(Fault, match="UNKNOWN_METHOD"):
            inet.supervisor.stopProcess("sleeper")

    assert_protected()
    text = supervisord.configuration.read_text()
    supervisord.configuration.write_text(text.replace("[inet_http_server]", "[inet_http_server:dash]"))
    supervisord.hang_up()
    assert_protected()
    assert "inet_http_server" in supervisord.unix().cache.getStats()["settings_error"]
    # Who comes by the socket may do as before, and put it right.
    assert supervisord.unix().cache.store("k", 1) is True
    assert supervisord.unix().supervisor.stopProcess("sleeper") is True
    right = text.replace("[inet_http_server]", "[inet_http_server:dash]")
    right = right.replace("= inet_http_server", "= inet_http_server:dash")
    supervisord.configuration.write_text(right)
    supervisord.hang_up()
    assert_protected()
    assert supervisord.unix().cache.getStats()["settings_error"] == ""


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_option_named_like_a_parameter_at_a_reload_keeps_supervisord(start: StartSupervisord, name: str) -> None:
    supervisord = start(more=program("sleeper"))
    pid = supervisord.pid
    supervisord.unix().cache.store("k", "v")
    supervisord.sections["cache"] = {name: "1"}
    supervisord.reload()
    assert supervisord.pid == pid
    assert supervisord.inet().cache.fetch("k") == "v"
    (line,) = criticals(supervisord)
    assert f"[rpcinterface:cache] {name} = '1': unknown option" in line
    until(lambda: supervisord.unix().supervisor.getProcessInfo("sleeper")["statename"] == "RUNNING", "sleeper runs")


@pytest.mark.tracebacks
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemonized"])
def test_the_log_has_the_line_where_stderr_takes_none(
    make_supervisord: StartSupervisord, redirection: str, daemon: bool
) -> None:
    supervisord = make_supervisord({"cache": {"max_entries": "many"}}, daemon=daemon)
    ended = supervisord.run(redirection)
    assert ended.returncode != 0
    assert ended.stderr == ""
    (line,) = criticals(supervisord)
    assert line.endswith("[rpcinterface:cache] max_entries = 'many': must be a whole number from 1 to 1000000")
    assert "SettingsError" in supervisord.log


WRAPPED = "\n[rpcinterface:{}]\nsupervisor.rpcinterface_factory = tests.e2e.wrapping:make_wrapped\n"
NOT_NAMED = "no [rpcinterface:x] section names supervisor_cache.rpcinterface:make_cache_rpcinterface itself"


@pytest.mark.tracebacks
def test_a_factory_that_is_called_by_another_stops_supervisord_at_start(make_supervisord: StartSupervisord) -> None:
    supervisord = make_supervisord({}, WRAPPED.format("cache"), environment={"PYTHONPATH": str(ROOT)})
    ended = supervisord.run()
    assert ended.returncode == 2
    assert ended.stderr.count(f"Error: {NOT_NAMED}") == 1
    (line,) = criticals(supervisord)
    assert line.endswith(NOT_NAMED)


@pytest.mark.tracebacks
def test_a_factory_that_is_called_by_another_at_a_reload_keeps_supervisord_and_refuses_every_call(
    start: StartSupervisord,
) -> None:
    supervisord = start(more=program("sleeper"), environment={"PYTHONPATH": str(ROOT)})
    pid = supervisord.pid
    supervisord.unix().cache.store("k", "v")
    sections, more = supervisord.sections, supervisord.more
    supervisord.sections, supervisord.more = {}, more + WRAPPED.format("cache")
    supervisord.reload()
    assert supervisord.pid == pid
    until(lambda: supervisord.unix().supervisor.getProcessInfo("sleeper")["statename"] == "RUNNING", "sleeper runs")
    for cache in (supervisord.unix().cache, supervisord.inet().cache):
        for method, arguments in WRITES + READS:
            if method not in ALWAYS_ANSWERED:
                with pytest.raises(Fault, match="UNAVAILABLE: not configured: "):
                    getattr(cache, method)(*arguments)
    assert NOT_NAMED in supervisord.log
    supervisord.sections, supervisord.more = sections, more
    supervisord.reload()
    assert supervisord.inet().cache.fetch("k") == "v"


def test_lower_limits_of_keys_and_values_keep_what_is_stored_and_refuse_what_is_larger(start: StartSupervisord) -> None:
    supervisord = start()
    key, value = "k" * 100, ["x" * 200]
    supervisord.unix().cache.storeMany({key: value, "text": "y" * 200})
    supervisord.sections["cache"] = {"max_key_bytes": "10", "max_value_bytes": "100"}
    supervisord.reload()
    warnings = [line for line in supervisord.log.splitlines() if "WARN supervisor_cache" in line]
    assert len(warnings) == 1
    assert warnings[0].endswith(
        "cache: a key of 100 bytes is stored, max_key_bytes is 10; "
        "a value of 204 bytes is stored, max_value_bytes is 100: all of it is kept, and growth refused"
    )
    cache = supervisord.unix().cache
    assert cache.getItems() == {key: value, "text": "y" * 200}
    revision = cache.getRevision()
    assert cache.storeMany({key: value, "text": "y" * 200}, {"if_changed": True}) == ""
    assert cache.store(key, value, {"if_changed": True}) is True
    assert cache.getRevision() == revision
    assert cache.store(key, value) is True
    for larger in (["x" * 201], ["x" * 200, 1]):
        with pytest.raises(Fault, match=r"LIMIT_EXCEEDED: .* max_value_bytes is 100"):
            cache.store(key, larger)
    assert cache.fetch(key) == value
    assert cache.store(key, ["x" * 150]) is True
    with pytest.raises(Fault, match=r"LIMIT_EXCEEDED: .* has 204 bytes as JSON; max_value_bytes is 100"):
        cache.store(key, value)
    assert cache.store(key, "small") is True
    with pytest.raises(Fault, match=r"LIMIT_EXCEEDED: .* max_value_bytes is 100"):
        cache.store(key, ["x" * 150])
    with pytest.raises(Fault, match=r"BAD_NAME: .*max_key_bytes is 10"):
        cache.store("other" * 3, 1)
    cache.delete(key)
    with pytest.raises(Fault, match=r"BAD_NAME: .*max_key_bytes is 10"):
        cache.store(key, 1)


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"max_value_bytes": "2MB"}, True),
        ({"max_request_bytes": "32KB"}, True),
        ({"max_value_bytes": "2MB", "max_request_bytes": "2MB"}, False),
    ],
    ids=str,
)
def test_a_value_limit_that_no_request_can_reach_is_warned_of(
    start: StartSupervisord, options: dict[str, str], warned: bool
) -> None:
    line = "cache: max_value_bytes is above max_request_bytes, which comes first"
    assert start({"cache": options}).log.count(line) == warned


def test_a_new_section_that_is_wrong_at_a_reload_refuses_every_call_until_it_is_right(start: StartSupervisord) -> None:
    supervisord = start()
    supervisord.sections["two"] = {"read_onyl": "inet_http_server"}
    supervisord.reload()
    for method, arguments in WRITES + READS:
        if method not in ALWAYS_ANSWERED:
            with pytest.raises(Fault, match=r"UNAVAILABLE: not configured: .*read_onyl"):
                getattr(supervisord.unix().two, method)(*arguments)
    assert supervisord.unix().two.getAPIVersion() == "2.0"
    assert "read_onyl" in supervisord.unix().two.getStats()["settings_error"]
    assert supervisord.unix().cache.store("k", "v") is True
    supervisord.sections["two"] = {"read_only": "inet_http_server"}
    supervisord.reload()
    assert supervisord.unix().two.store("k", "v") is True


def test_options_are_read_as_supervisor_reads_its_own(start: StartSupervisord) -> None:
    options = {
        "max_entries": "5 ; a comment",
        "max_key_bytes": "2kb",
        "max_value_bytes": "1MB",
        "log_changes": "YES",
        "read_only": "",
        "allowed_hosts": "ops.example.com, [::1]:80",
    }
    supervisord = start({"cache": options})
    limits = supervisord.unix().cache.getStats()["limits"]
    assert limits == {
        "max_entries": 5,
        "max_key_bytes": 2048,
        "max_value_bytes": 1048576,
        "max_total_bytes": 16 * 1048576,
        "max_changes": 10_000,
        "max_watchers": 100,
        "max_request_bytes": 1048576,
    }


WRITES: list[tuple[str, tuple[object, ...]]] = [
    ("store", ("k", "other")),
    ("storeMany", ({"k": "other"},)),
    ("add", ("new", 1)),
    ("storeIf", ("k", "other", "")),
    ("increment", ("n",)),
    ("touch", ("k", 60)),
    ("touchIf", ("k", 60, "1")),
    ("delete", ("k",)),
    ("deleteIf", ("k", "1")),
    ("deleteMany", (["k"],)),
    ("deletePrefix", ("k",)),
    ("clear", ()),
]
# Stands for the newest revision.
NEWEST = "newest"
# Also where nobody can tell what is stored.
ALWAYS_ANSWERED = {"getAPIVersion", "getStats"}
READS: list[tuple[str, tuple[object, ...]]] = [
    ("getAPIVersion", ()),
    ("getKeys", ()),
    ("getCount", ()),
    ("fetch", ("k",)),
    ("getChanges", (NEWEST,)),
    ("wait", ("1", 0)),
    ("fetchMany", (["k"],)),
    ("getItems", ()),
    ("getEntry", ("k",)),
    ("getEntries", ()),
    ("getRevision", ()),
    ("getStats", ()),
]


def test_a_read_only_server_refuses_each_write_and_serves_each_read(start: StartSupervisord) -> None:
    supervisord = start({"cache": {"read_only": "inet_http_server"}, "free": {}})
    writer, reader = supervisord.unix().cache, supervisord.inet().cache
    writer.storeMany({"k": "v", "n": 1})
    revision = writer.getRevision()
    for method, arguments in WRITES:
        with pytest.raises(Fault) as caught:
            getattr(reader, method)(*arguments)
        assert caught.value.faultCode == 205
        assert caught.value.faultString.startswith("READ_ONLY: inet_http_server only reads cache")
    for method, arguments in READS:
        given = [revision if each is NEWEST else each for each in arguments]
        here, there = getattr(reader, method)(*given), getattr(writer, method)(*given)
        if method == "getStats":
            assert here["read_only"] == ["inet_http_server"]
        else:
            assert here == there
    assert writer.getRevision() == revision
    assert supervisord.inet().free.store("k", "v") is True


def test_every_method_is_covered_by_the_read_only_test(start: StartSupervisord) -> None:
    supervisord = start()
    methods = {name.partition(".")[2] for name in supervisord.unix().system.listMethods() if name.startswith("cache.")}
    assert methods == {method for method, _ in WRITES + READS}


def test_changes_are_logged_on_request_and_never_their_values(start: StartSupervisord) -> None:
    supervisord = start({"cache": {"log_changes": "true"}})
    cache = supervisord.unix().cache
    revision = cache.storeMany({"ä\x85": "secret", "b": 1}, {"note": "deploy: 2026.11"})
    supervisord.inet().cache.delete("b")
    cache.clear({"note": "x" * 300})
    lines = [line.partition("supervisor_cache: ")[2] for line in supervisord.log.splitlines() if " cache: " in line]
    rest = f"revision={revision} ttl=0 owner='' note='deploy: 2026.11' via='unix_http_server'"
    assert lines[1:3] == [f"cache: store key='\\xe4\\x85' {rest}", f"cache: store key='b' {rest}"]
    assert f"cache: delete key='b' revision={int(revision) + 1} ttl=0 owner='' note='' via='inet_http_server'" in lines
    assert any(line.startswith(f"cache: clear key='' revision={int(revision) + 2}") for line in lines)
    assert "x" * 201 not in supervisord.log
    assert "secret" not in supervisord.log


def test_nothing_is_logged_for_a_call(start: StartSupervisord) -> None:
    supervisord = start()
    before = supervisord.log
    supervisord.unix().cache.store("k", "v")
    supervisord.unix().cache.fetch("k")
    with pytest.raises(Fault):
        supervisord.unix().cache.fetch("missing")
    assert supervisord.log == before
