"""What the command has beside the verbs of supervisorctl; each is imported when it is run."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from supervisor_cache.commands.arguments import Usage, Words

if TYPE_CHECKING:
    from supervisor_cache.cli.globals import Globals


class Own(NamedTuple):
    """One of them.

    Attributes:
        help: What it does, in a sentence.
        usage: What it takes.
        module: Where it is: its function ``run``.
    """

    help: str
    usage: Usage
    module: str

    def load(self) -> "Callable[[Globals, Words], int | None]":
        """Answer what does it, and answers the exit status or None."""
        run: Callable[[Globals, Words], int | None] = import_module(f"supervisor_cache.cli.{self.module}").run
        return run


OWN: Mapping[str, Own] = {
    "watch": Own(
        "Show changes as they happen, of all items or of those whose key starts with PREFIX; --json: an object a line.",
        Usage(("[PREFIX]",), ("json",), {"since": "REVISION"}),
        "watch",
    ),
    "lock": Own(
        "Hold a lock while COMMAND runs, and end as it does; 75 where somebody else has it for all of --wait.",
        Usage(
            ("KEY", "COMMAND", "[ARGUMENT...]"),
            ("kill-on-loss",),
            {"ttl": "TIME", "wait": "TIME", "owner": "GROUP:NAME", "note": "TEXT"},
        ),
        "lock",
    ),
    "export": Own(
        "Write all items, or those whose key starts with PREFIX, for import: values, notes and when they end.",
        Usage(("[PREFIX]",)),
        "export",
    ),
    "import": Own(
        "Store what export wrote (PATH, or standard input): all or nothing, or with --partial what can be stored.",
        Usage(("[PATH]",), ("partial",)),
        "restore",
    ),
    "config": Own(
        "Print the sections to paste into supervisord.conf; --check tells what is wrong in FILE.",
        Usage((), (), {"check": "FILE"}),
        "config",
    ),
    "completion": Own(
        "Print what to paste for completion in a shell: bash, zsh or fish.", Usage(("SHELL",)), "completion"
    ),
    "on-change": Own(
        "As the command of an [eventlistener]: at each change, act on processes (GROUP:NAME) or run a command.",
        Usage(
            ("[PATTERN...]",),
            ("restart", "run"),
            {"prefix": "PREFIX", "signal": "SIGNAL", "settle": "TIME"},
        ),
        "on_change",
    ),
}
