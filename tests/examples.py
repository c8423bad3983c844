"""The examples of README.md and docs/, found and run as they stand.

Each page has a supervisord, a bash and a Python of its own, and its blocks are run in their order:

* ``ini``: sections of the configuration file. They take the place of those that the page had before under the same
  names; `supervisor-cache config --check` must find nothing, and a real supervisord is started with them.
* ``console``: each line after ``$ `` (and those after ``> ``, which go on) is typed into bash. What stands below must
  be what is printed, ``...`` for anything: within a line, or alone on one for any number of lines; a last line ``^C``
  interrupts what would go on, once all before it has been printed. Where nothing is shown, the command must do well.
* ``python``: run, in the names of the page's blocks before it.
* ``sh``: a script of its own.
* ``json`` must be that. Anything else is run by nobody, and has to stand in the list of exceptions.

A block whose first comment is a path (``# /srv/web.py``) is that file, for what comes after it. A comment
``<!-- run LANGUAGE`` in a page is a block that a reader does not see. Paths and the port are this supervisord's own.
"""

import json
import os
import re
import secrets
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, final

from markdown_it import MarkdownIt

from tests.conftest import missing
from tests.harness import OWN_BINARIES, START_SECONDS, Supervisord, until

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts)]
_RUN = {"ini", "console", "python", "sh", "json"}
# What nothing here runs: page and first line, and why.
NOT_RUN = {
    (
        "README.md",
        "make demo     # a supervisord on loopback with two programs: shows each call, then serves the page",
    ): "tests/e2e/test_demo.py, and this is a test",
    ("README.md", "pip install ."): "`make matrix` installs the wheel, under each Python",
    ("docs/architecture.md", " in supervisord                            in other processes"): "drawn",
    (
        "docs/architecture.md",
        " rpc.store ─┐                 1 plan            2 commit           3 apply           4 observe",
    ): "drawn",
    ("docs/start.md", "$ pip install ."): "`make matrix` installs the wheel, under each Python",
    ("docs/command.md", "source <(supervisor-cache completion bash)"): "tests/e2e/test_completion.py, in each shell",
    ("docs/http.md", "location /markers/ {"): "tests/e2e/test_nginx.py",
    ("docs/reading.md", "from supervisor_cache import open_local"): "tests/e2e/test_reading.py, as those below",
    ("docs/reading.md", "sqlite3 -readonly -cmd '.timeout 1000' /var/lib/supervisor/cache.db \\"): "likewise",
    ("docs/reading.md", 'const { DatabaseSync } = require("node:sqlite");'): "likewise",
    ("docs/reading.md", "<?php"): "likewise",
    ("docs/reading.md", 'require "json"'): "likewise",
    ("docs/operating.md", "FROM python:3.13-slim"): "tests/e2e/test_image.py, in namespaces",
    ("docs/operating.md", "services:"): "likewise",
    (
        "docs/shared.md",
        "etcd --auto-compaction-mode periodic --auto-compaction-retention 1h ...",
    ): "tests/e2e/test_shared_page.py, with an etcd of its own",
    ("docs/shared.md", "etcdctl role add supervisor"): "likewise",
    ("docs/shared.md", "$ etcdctl get --prefix /supervisor/prod/e/"): "likewise",
    ("docs/uses/dashboard.md", "scrape_configs:"): "tests/e2e/test_prometheus.py",
}
_PROGRAMS = ("curl", "openssl", "sqlite3")
_HIDDEN = re.compile(r"<!-- run ([a-z]+)\n(.*?)-->", re.DOTALL)
_FILE = re.compile(r"(?:#!.*\n)?# (/\S+)\n")
_HEADING = re.compile(r"^\[(.+)\]$", re.MULTILINE)
# What a page has until it says something else.
_SECTIONS = """\
[supervisord]
nodaemon = true
logfile = /var/log/supervisor/supervisord.log
pidfile = /run/supervisord.pid
childlogdir = /var/log/supervisor

[unix_http_server]
file = /run/supervisor.sock

[inet_http_server]
port = 127.0.0.1:9001

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix:///run/supervisor.sock

[rpcinterface:cache]
supervisor.rpcinterface_factory = supervisor_cache.rpcinterface:make_cache_rpcinterface

[ctlplugin:cache]
supervisor.ctl_factory = supervisor_cache.controllerplugin:make_cache_controllerplugin
"""
# Typed into bash first. `once_waited` does what follows as soon as more than `before` clients wait.
_BASH = """\
before=0
waiting() { supervisor-cache stats --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["watchers"])'; }
once_waited() {
    until [ "$(waiting)" -gt "$before" ]; do sleep 0.05; done
    "$@"
}
"""
# Runs one block after another, each a line of JSON, in the same names.
_PYTHON = """\
import contextlib, io, json, sys, traceback
names = {"__name__": "example"}
for line in sys.stdin:
    said, wrong = io.StringIO(), ""
    with contextlib.redirect_stdout(said):
        try:
            exec(compile(json.loads(line), "example", "exec"), names)
        except BaseException:
            wrong = traceback.format_exc()
    print(json.dumps([said.getvalue(), wrong]), flush=True)
"""


class Block(NamedTuple):
    """A block of a page.

    Attributes:
        page: Its path from here.
        line: Where it starts.
        language: What it says that it is.
        code: What it is.
        hidden: Whether a reader does not see it.
    """

    page: str
    line: int
    language: str
    code: str
    hidden: bool

    @property
    def first_line(self) -> str:
        return self.code.partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Find the blocks of a page, also those in lists, and those in comments that are to be run."""
    name = str(page.relative_to(ROOT))
    for token in MarkdownIt().parse(page.read_text()):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "fence":
            yield Block(name, line, token.info.strip(), token.content, hidden=False)
        elif token.type == "code_block":
            yield Block(name, line, "", token.content, hidden=False)
        elif token.type == "html_block":
            for language, code in _HIDDEN.findall(token.content):
                yield Block(name, line, language, code, hidden=True)


@final
class _Documented(Supervisord):
    """A supervisord with the sections of a page."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(environment=environment)
        self._sections = dict(_sections(_SECTIONS))

    def add(self, text: str) -> None:
        """Take sections over, in the place of those with the same names."""
        for name, lines in _sections(text):
            # Where the files of supervisord are is this test's business.
            self._sections[name] = f"{self._sections[name]}{lines}" if name == "supervisord" else lines

    def write_configuration(self) -> None:
        text = ""
        for name, lines in self._sections.items():
            text += f"[{name}]\n{lines}\n"
            if name.startswith(("program:", "eventlistener:")):
                text += "stopwaitsecs = 1\n"  # SIGTERM is lost on a child that still has supervisord's handlers
        self.configuration.write_text(self.localized(text))

    def localized(self, text: str) -> str:
        """Have ``text`` speak of this supervisord and its folder."""
        for said, meant in (
            ("/etc/supervisord.conf", str(self.configuration)),
            ("/etc/supervisor", f"{self.folder}/etc"),
            ("/run/supervisor.sock", str(self.socket_path)),
            ("/run/supervisord.pid", f"{self.folder}/supervisord.pid"),
            ("/var/log/supervisor/supervisord.log", f"{self.folder}/supervisord.log"),
            ("/var/log/supervisor", str(self.folder)),
            ("/var/lib/supervisor", f"{self.folder}/lib"),
            ("/var/backups", f"{self.folder}/backups"),
            ("/usr/local/bin", f"{self.folder}/bin"),
            ("/srv", f"{self.folder}/srv"),
            ("localhost:9001", f"127.0.0.1:{self.port}"),
            ("127.0.0.1:9001", f"127.0.0.1:{self.port}"),
        ):
            text = meant.join(re.split(rf"(?<![\w.-]){re.escape(said)}(?!\w)", text))
        return text


def _sections(text: str) -> Iterator[tuple[str, str]]:
    before, *parts = _HEADING.split(text)
    assert not before.strip() or before.lstrip().startswith((";", "#")), f"not in a section: {before}"
    yield from zip(parts[::2], [part.lstrip("\n") for part in parts[1::2]], strict=True)


@final
class Reader:
    """Does what a page says, block by block."""

    def __init__(self) -> None:
        known = ("SUPERVISOR_", "COMP_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(known)}
        environment.update(PATH=f"{OWN_BINARIES}:{os.environ['PATH']}", USER="ada", LC_ALL="C.UTF-8", TZ="UTC")
        environment.pop("VIRTUAL_ENV", None)
        self._environment = environment
        self._supervisord = _Documented(environment)
        self._started = False
        self._bash: subprocess.Popen[str] | None = None
        self._python: subprocess.Popen[str] | None = None
        environment["PATH"] = f"{self.folder}/bin:{environment['PATH']}"
        environment["HOME"] = str(self.folder)
        for name in ("etc", "lib", "backups", "bin", "srv"):
            (self.folder / name).mkdir()

    @property
    def folder(self) -> Path:
        """Where everything of it is."""
        return self._supervisord.folder

    def do(self, block: Block) -> None:
        """Run one block; fail where it does not do what it shows."""
        code = self._supervisord.localized(block.code)
        try:
            if block.language == "json":
                json.loads(code)
            elif block.language == "ini":
                self._configure(code)
            elif found := _FILE.match(code):
                self._write(Path(found[1]), code)
            else:
                self._start()
                {"console": self._type, "python": self._run_python, "sh": self._run_script}[block.language](code)
        except AssertionError as error:
            raise AssertionError(f"{block}: {error}") from None

    def close(self) -> None:
        """End all that was started, and fail if supervisord has logged a traceback."""
        for process in (self._bash, self._python):
            if process is not None:
                with process:
                    assert process.stdin is not None
                    process.stdin.close()
                    try:
                        process.wait(5)
                    except subprocess.TimeoutExpired:  # it has failed, and is told of already
                        process.kill()
        log = self._supervisord.log
        self._supervisord.close()
        assert "Traceback" not in log, log

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._supervisord.start()

    def _configure(self, text: str) -> None:
        if os.geteuid() != 0:
            text = re.sub(r"^(user|chown) *=.*\n", "", text, flags=re.MULTILINE)
        self._supervisord.add(text)
        for path in re.findall(rf"^command *= *({re.escape(str(self.folder))}\S*)", text, re.MULTILINE):
            if not Path(path).exists():
                self._write(Path(path), "#!/bin/sh\nexec sleep 1000\n")  # what the page does not show
        self._supervisord.write_configuration()
        command = [str(OWN_BINARIES / "supervisor-cache"), "config", "--check", str(self._supervisord.configuration)]
        checked = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        if self._started:
            self._supervisord.stop()
        self._started = False
        self._start()

    def _write(self, path: Path, code: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        path.chmod(0o755)

    def _run_script(self, code: str) -> None:
        script = self.folder / "script"
        script.write_text(code)
        done = subprocess.run(
            ["sh", "-e", str(script)], env=self._environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=START_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def _run_python(self, code: str) -> None:
        if self._python is None:
            self._python = self._process([sys.executable, "-c", _PYTHON])
        assert self._python.stdin is not None
        self._python.stdin.write(json.dumps(code) + "\n")
        self._python.stdin.flush()
        said, wrong = json.loads(_line(self._python))
        assert not wrong, f"{code}\n{said}\n{wrong}"

    def _type(self, code: str) -> None:
        if self._bash is None:
            self._bash = self._process(["bash", "--noprofile", "--norc"])
            self._typed(_BASH)
        self._typed('cd "$HOME"')  # each block starts where the configuration file is
        for command, expected in _commands(code):
            if expected.endswith("^C\n"):
                self._interrupted(command, expected.removesuffix("^C\n"))
                continue
            status, printed = self._typed(command)
            if expected:
                assert matches(expected, printed), f"{command}\nprinted\n{printed}\nand not\n{expected}"
            else:
                assert status == 0, f"{command}\nended with {status} and printed\n{printed}"

    def _interrupted(self, command: str, expected: str) -> None:
        printed = self.folder / "printed"
        printed.write_text("")
        # In a group of its own, so that all of it can be ended.
        self._typed(f"set -m\n{{ {command}\n}} > {printed} 2>&1 &\nset +m; job=$!")
        try:
            until(lambda: matches(expected, printed.read_text()), f"{command} prints {expected}")
        finally:
            self._typed("kill -- -$job; wait $job 2> /dev/null")

    def _typed(self, command: str) -> tuple[int, str]:
        assert self._bash is not None
        assert self._bash.stdin is not None
        end = secrets.token_hex(8)
        self._bash.stdin.write(f"{{\n{command}\n}} </dev/null\necho {end} $?\n")
        self._bash.stdin.flush()
        printed = ""
        while True:
            line = _line(self._bash)
            before, found, status = line.partition(end)
            printed += before
            if found:
                return int(status), printed

    def _process(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, env=self._environment, cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, bufsize=1,
        )  # fmt: skip


def _line(process: "subprocess.Popen[str]") -> str:
    """Read a line of what a process prints, a byte at a time, so that nothing hides in a buffer."""
    assert process.stdout is not None
    end, read = time.monotonic() + START_SECONDS, b""
    while not read.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"nothing more for {START_SECONDS} s after {read!r}"
        byte = os.read(process.stdout.fileno(), 1)
        assert byte, f"ended after {read!r}"
        read += byte
    return read.decode()


def _commands(code: str) -> Iterator[tuple[str, str]]:
    command, expected = "", ""
    for line in code.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:], ""
        elif line.startswith("> ") and not expected:
            command += "\n" + line[2:]
        else:
            assert command, f"before any command: {line}"
            expected += line + "\n"
    assert command, "no line starts with `$ `"
    yield command, expected


def matches(expected: str, printed: str) -> bool:
    """Whether what is printed is what was expected, in which ``...`` stands for anything."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else ".*?".join(map(re.escape, line.rstrip().split("..."))) + r" *\n"
        for line in expected.splitlines()
    )
    return re.fullmatch(pattern, printed.rstrip("\n") + "\n") is not None


def is_run(block: Block) -> bool:
    """Whether `Reader` runs it."""
    return block.language in _RUN and (block.page, block.first_line) not in NOT_RUN


def name(page: Path) -> str:
    """Answer the path of a page from here."""
    return str(page.relative_to(ROOT))


def read(page: Path) -> None:
    """Do what a page says; skip where a program that it uses is missing."""
    found = [block for block in blocks(page) if is_run(block)]
    for program in _PROGRAMS:
        if shutil.which(program) is None and any(re.search(rf"\b{program}\b", block.code) for block in found):
            missing(program)
    reader = Reader()
    try:
        for block in found:
            reader.do(block)
    finally:
        reader.close()
