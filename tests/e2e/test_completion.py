"""What bash, zsh and fish complete once they have read what `supervisor-cache completion` prints."""

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, final

import pytest

from tests.conftest import missing
from tests.e2e.test_command import environment, typed
from tests.harness import PASSWORD, START_SECONDS, USER, Supervisord

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(supervisor-cache completion bash)"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -D -u; source <(supervisor-cache completion zsh)"),
    "fish": (["fish", "--no-config", "-i"], "supervisor-cache completion fish | source"),
}
# What is typed, with TAB where it is pressed, and the key that is counted up then.
TYPED = [
    ("incre\t app/one", "app/one"),
    ("increment app/t\t", "app/two"),
    ("increment -- app/t\t", "app/two"),
    ("increment proc\t2", "process/web:web-2"),
    ("increment process/web:\t1", "process/web:web-1"),
    ("increment process/web:web-1\t", "process/web:web-1"),
    ("increment a:\t", "a:b:c:d"),
    ("increment a:b:c\t", "a:b:c:d"),
    ("increment eq=\t", "eq=al"),
    ("increment com\t", "com,ma"),
    ("increment at@\t", "at@home"),
    ("increment tw\t", "two words"),
    ("increment two\\ w\t", "two words"),
    ("increment 'two w\t", "two words"),
    ('increment "two w\t', "two words"),
    ("increment it\t", "it's"),
    ("increment say\t", 'say "hi"'),
    ("increment cash\t", "cash$HOME"),
    ('increment "cash\t', "cash$HOME"),
    ("increment semi\t", "semi;colon"),
    ("increment star\t", "star*"),
    ("increment back\t", "back\\slash"),
    ("increment par\t", "par(en)"),
    ("increment \U0001f98a\t", "\U0001f98a/雪"),
    ("--timeo\t 20 increment app/t\t", "app/two"),
]


@final
class Shell:
    """A shell on a terminal that has read what completes the command."""

    def __init__(self, name: str, supervisord: Supervisord, home: Path) -> None:
        command, line = SHELLS[name]
        if shutil.which(command[0]) is None:
            missing(command[0])
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=home,
            env=environment(supervisord, HOME=str(home), PS1="$ ", TERM="xterm"),
        )
        os.close(slave)
        self.shown = b""
        self.type(f"{line}; echo RE''ADY")
        self.until(lambda: b"READY" in self.shown)

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def until(self, condition: Callable[[], object]) -> None:
        """Take what is shown until a condition holds."""
        end = time.monotonic() + START_SECONDS
        while not condition():
            assert time.monotonic() < end, self.shown.decode(errors="replace")[-500:]
            if select.select([self._master], [], [], 0.02)[0]:
                self.shown += os.read(self._master, 65536)


def has_moved_on(cache: Any, revision: str) -> bool:
    return bool(cache.getRevision() != revision)


@pytest.mark.parametrize("name", SHELLS)
def test_a_tab_completes_commands_options_and_keys(shared: Supervisord, cache: Any, tmp_path: Path, name: str) -> None:
    counts = dict.fromkeys([*(key for _, key in TYPED), "-dash", "zzz"], 0)
    cache.storeMany(counts)
    with Shell(name, shared, tmp_path) as shell:
        for line, key in TYPED:
            before = cache.getRevision()
            shell.type(f"supervisor-cache {line}")
            shell.until(partial(has_moved_on, cache, before))
            counts[key] += 1
            assert (line, cache.getItems()) == (line, counts)
        shell.type("supervisor-cache increment --no\t 'ops: me' zz\t")
        shell.until(lambda: cache.getEntry("zzz")["note"] == "ops: me")
        shell.type("supervisor-cache delete --prefix app/o\t")
        shell.until(lambda: "app/one" not in cache.getKeys())
        (tmp_path / "a file").write_text("of a file")
        shell.type("supervisor-cache store --file a\t new")
        shell.until(lambda: cache.getItems().get("new") == "of a file")
        assert b"Traceback" not in shell.shown


def asked(supervisord: Supervisord | None, shell: str, line: str, **variables: str) -> list[str]:
    """Answer what a shell is told when TAB is pressed at the end of ``line``; nothing may be on stderr."""
    words = line.split(" ")
    position = {"bash": words[-1], "zsh": str(len(words) - 1), "fish": words[-1]}[shell]
    status, output, complaint = typed(
        supervisord,
        "supervisor-cache",
        stdin=f"{PASSWORD}\n",
        folder=None,
        _SUPERVISOR_CACHE_COMPLETE=f"{shell}_complete",
        COMP_WORDS=line,
        COMP_CWORD=position,
        **variables,
    )
    assert (status, complaint) == (0, "")
    return output.split()


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_is_offered_or_printed_where_no_server_answers(
    shared: Supervisord, cache: Any, tmp_path: Path, shell: str
) -> None:
    cache.store("key", 1)
    assert any("key" in line for line in asked(shared, shell, "supervisor-cache fetch k"))
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    secret.chmod(0o600)
    login = f"--user {USER} --password-file {secret}"
    for options in (
        f"--url unix://{tmp_path}/none.sock",
        "--url http://127.0.0.1:1",
        "--url nonsense",
        f"--url http://{USER}:s3cret@127.0.0.1:{shared.port}",
        f"--url {shared.inet_url} {login}",
        f"--url {shared.inet_url} --user {USER} --password-file -",
        login,
        f"--configuration {tmp_path}/none.conf",
        f"--local {tmp_path}/none.db",
        "--namespace nowhere",
        "--namespace a<b",
        "--timeout soon",
    ):
        assert (options, asked(shared, shell, f"supervisor-cache {options} fetch k")) == (options, [])
    assert asked(None, shell, "supervisor-cache fetch k") == []


def test_only_keys_are_asked_for_that_begin_so_and_of_the_server_that_is_named(shared: Supervisord, cache: Any) -> None:
    cache.storeMany({"app/one": 1, "app/two": 2, "other": 3})
    for options in (f"--url {shared.unix_url}", f"--configuration {shared.configuration}"):
        for rest in ("fetch app/", "keys app/", "lock --ttl 5 app/", "watch app/", "delete other app/"):
            line = f"supervisor-cache {options} {rest}"
            assert asked(None, "bash", line) == ["plain,app/one", "plain,app/two"]
    assert asked(shared, "bash", "supervisor-cache store other app/") == []
    assert asked(shared, "bash", "supervisor-cache completion ") == ["plain,bash", "plain,zsh", "plain,fish"]
    assert asked(shared, "bash", "supervisor-cache config --check ") == ["file,"]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_shell_reads_is_right_for_it(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        missing(shell)
    status, output, complaint = typed(None, f"supervisor-cache completion {shell}")
    assert (status, complaint) == (0, "")
    (tmp_path / "read").write_text(output)
    assert typed(None, f"{shell} -n {tmp_path}/read") == (0, "", "")
