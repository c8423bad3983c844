"""The command as click knows it: for its help, and for what a shell completes."""

import os
import re
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    add_completion_class,
    get_completion_class,
    shell_complete,
)

from supervisor_cache.cli.globals import USAGE, Globals
from supervisor_cache.cli.own import OWN
from supervisor_cache.commands.arguments import Usage, UsageError, Words
from supervisor_cache.commands.durations import seconds
from supervisor_cache.commands.verbs import VERBS
from supervisor_cache.errors import CacheError

COMMAND = "supervisor-cache"
COMPLETE_VARIABLE = "_SUPERVISOR_CACHE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")

_HELP = {
    "absent": "Wait until there is none.",
    "changed": "Wait until it is another one than now.",
    "check": "Tell what is wrong in this configuration file.",
    "configuration": "The file with the [supervisorctl] section.",
    "default": "Show this where there is no such key.",
    "file": "Take the value from this file; - is standard input.",
    "if-changed": "Do nothing where it is the same already; says changed or unchanged.",
    "if-revision": "Only if the item has this revision; '' where there must be none.",
    "json": "Values are JSON.",
    "kill-on-loss": "End COMMAND when the lock is lost: SIGTERM, and SIGKILL after 10 s.",
    "local": "Read this database of storage = sqlite:PATH, and ask nobody.",
    "namespace": "What stands after rpcinterface: (default cache).",
    "note": "One line: who and why.",
    "owner": "End with this process; self is the one that runs this.",
    "partial": "Store what can be stored.",
    "password-file": "The password: the first line of this file; - is standard input.",
    "prefix": "Only keys that start so.",
    "raw": "Show a string as it is, anything else as JSON.",
    "restart": "Restart the processes.",
    "run": "What follows is a command with its arguments; the change is in its environment.",
    "settle": "Act once nothing more has changed for so long (default 0.5s).",
    "signal": "Send this signal to the processes: HUP, USR1, ...",
    "since": "Begin after this revision.",
    "timeout": "How long to wait at most.",
    "ttl": "End after this time: 90, 90m, 2h, 7d.",
    "url": "unix:///PATH or http://HOST:PORT; several, for commands that only read: each line begins with the host.",
    "user": "The server's user; goes with --password-file.",
    "value": "Wait until it is this.",
    "version": "Show the version.",
    "wait": "How long to wait for the lock; for as long as it takes without.",
}
_COMPLETED_SECONDS = 1.0
_COMPLETED_KEYS = 500

_ABOUT = """Small runtime markers inside supervisord: store, fetch, list and delete them.

Which supervisord: --url, or SUPERVISOR_SERVER_URL with SUPERVISOR_USERNAME and SUPERVISOR_PASSWORD, or the
configuration file that supervisorctl would find. Options stand before the arguments; the first word that does not
start with -- ends them, and so does -- itself.

Exit status: 0; 1 the answer is no (no such key, a condition does not hold, time is over); 2 wrong usage; 3 refused;
4 not reachable; 7 no socket file; 75 the lock was not to be had.
"""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        # In the order in which they are best read.
        return list(self.commands)


def show(typed: list[str]) -> int:
    """Show help as ``typed`` asks for it, or answer a shell that completes."""
    app = _app()
    instruction = os.environ.get(COMPLETE_VARIABLE)
    if instruction:
        return shell_complete(app, {}, COMMAND, COMPLETE_VARIABLE, instruction)
    try:
        app.main(typed, COMMAND, standalone_mode=False)
    except click.UsageError as error:
        raise UsageError(error.format_message()) from None
    return 0


def source(shell: str) -> str:
    """Answer what a shell has to read for completion."""
    made = get_completion_class(shell)
    if made is None or shell not in SHELLS:
        raise UsageError(f"SHELL must be {', '.join(SHELLS)}")
    return made(_app(), {}, COMMAND, COMPLETE_VARIABLE).source()


def _app() -> click.Group:
    group = _Group(
        help=_ABOUT,
        params=[*_options(USAGE), click.Option(["--version"], is_flag=True, help=_HELP["version"])],
        context_settings={"allow_interspersed_args": False, "help_option_names": ["--help"], "max_content_width": 100},
    )
    for verb in VERBS:
        group.add_command(_command(verb.name, verb.help.replace(" cached", ""), verb.usage))
    for name, own in OWN.items():
        group.add_command(_command(name, own.help, own.usage))
    return group


def _command(name: str, text: str, usage: Usage) -> click.Command:
    return click.Command(
        name,
        help=text,
        short_help=text,
        params=[*_options(usage), *_arguments(usage, name)],
        context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    )


def _options(usage: Usage) -> list[click.Parameter]:
    flags = [click.Option([f"--{flag}"], is_flag=True, help=_HELP[flag]) for flag in usage.flags if flag not in _OWN]
    values = [
        click.Option([f"--{name}"], metavar=word, type=_type(word), help=_HELP[name], shell_complete=_completer(word))
        for name, word in usage.values.items()
    ]
    lists = [
        click.Option([f"--{name}"], metavar=word, multiple=True, help=_HELP[name]) for name, word in usage.lists.items()
    ]
    return [*lists, *values, *flags]


# click has its own, or it is made apart.
_OWN = ("help", "version")


def _arguments(usage: Usage, command: str) -> list[click.Parameter]:
    made: list[click.Parameter] = []
    for shown in usage.arguments:
        word = shown.strip("[].")
        complete = _shells if command == "completion" else _completer(word)
        made.append(
            click.Argument(
                [word.lower()],
                metavar=shown,
                nargs=-1 if "..." in shown else 1,
                required=False,
                type=_type(word),
                shell_complete=complete,
            )
        )
    return made


def _type(word: str) -> Any:
    return click.Path() if word in {"PATH", "FILE"} else click.STRING


_Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


def _completer(word: str) -> _Completer | None:
    return _keys if word in {"KEY", "PREFIX"} else None


def _shells(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    return [CompletionItem(shell) for shell in SHELLS if shell.startswith(incomplete)]


def _keys(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Ask for the keys; where nobody answers, there are none to offer."""
    given = context.parent.params if context.parent is not None else {}
    named = {name.replace("_", "-"): value for name, value in given.items() if value}
    urls = list(named.pop("url", ()))
    values = {name: value for name, value in named.items() if isinstance(value, str)}
    if values.get("password-file") == "-":  # what is typed next is no password
        return []
    try:
        seconds(values.pop("timeout", "1"), "--timeout")
        cache = Globals(Words([], set(), values, {"url": urls[:1]})).connect(
            local_reads=True, timeout=_COMPLETED_SECONDS
        )
        keys = cache.get_keys(incomplete, "", _COMPLETED_KEYS)
    except (CacheError, UsageError, OSError, ValueError):
        return []
    return [CompletionItem(key) for key in keys]


class _Bash(BashComplete):
    """Completion in bash, for keys that have colons, blanks and whatever else in them."""

    # Bash takes colons and others for the end of a word, so the line is sent as it is, and beside it the end of it that
    # bash is going to replace.
    source_template = r"""%(complete_func)s() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            plain,*) COMPREPLY+=("${line#plain,}") ;;
        esac
    done < <(COMP_WORDS=${COMP_LINE:0:COMP_POINT} COMP_CWORD=$2 %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
    _quote = ""
    _kept = 0

    @staticmethod
    def _check_version() -> None:
        """What is needed here is in every bash that has ``nosort``."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Answer the words before the one to complete, and that one."""
        words, self._quote = _split(os.environ["COMP_WORDS"])
        replaced = _split(os.environ["COMP_CWORD"], self._quote)[0][-1]
        if words[-1].endswith(replaced):
            self._kept = len(words[-1]) - len(replaced)
        return words[1:-1], words[-1]

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Answer what bash puts in the place of the end of the line, quoted as it is there."""
        value = item.value[self._kept :]
        if self._quote == "'":
            value = value.replace("'", r"'\''")
        else:
            value = (_SPECIAL_IN_QUOTES if self._quote else _SPECIAL).sub(r"\\\g<0>", value)
        return f"{item.type},{value}"


_SPECIAL_IN_QUOTES = re.compile(r'["\\$`]')
_SPECIAL = re.compile(r"""[\s"'\\$`!#&()*;<>?\[\]^{|}~]""")


def _split(line: str, quote: str = "") -> tuple[list[str], str]:
    """Take a line apart as a shell does; answer its words, and the quote that is open in the last one."""
    words = [""]
    characters = iter(line)
    for character in characters:
        if character == quote:
            quote = ""
        elif character == "\\" and quote != "'":
            following = next(characters, "")
            words[-1] += following if not quote or _SPECIAL_IN_QUOTES.match(following) else f"\\{following}"
        elif quote:
            words[-1] += character
        elif character in "'\"":
            quote = character
        elif not character.isspace():
            words[-1] += character
        elif words[-1]:
            words.append("")
    return words, quote


class _Fish(FishComplete):
    """Completion in fish, for keys that have a comma in them."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


add_completion_class(_Bash)
add_completion_class(_Fish)
