"""From the words of a command line to options and arguments."""

from collections.abc import Sequence
from dataclasses import dataclass, field


class UsageError(Exception):
    """The words do not fit the command."""


@dataclass(frozen=True)
class Usage:
    """What a command takes.

    Attributes:
        arguments: Names of the arguments, as the help shows them; ``[X]`` may be left out, ``X...`` repeats.
        flags: Options without a value.
        values: Options with a value, each with the word that the help shows for it.
    """

    arguments: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    values: dict[str, str] = field(default_factory=dict)

    def line(self, command: str) -> str:
        """Show what to type."""
        options = [f"[--{name} {word}]" for name, word in self.values.items()]
        options += [f"[--{name}]" for name in self.flags]
        return " ".join([command, *options, *self.arguments])


@dataclass(frozen=True)
class Words:
    """What was typed, taken apart.

    Attributes:
        arguments: What stands after the options.
        flags: The options without a value that were given.
        values: The options with a value that were given.
    """

    arguments: list[str]
    flags: set[str]
    values: dict[str, str]


def take_apart(usage: Usage, typed: Sequence[str]) -> Words:
    """Take ``typed`` apart: options first, ended by the first word without ``--``, or by ``--`` itself.

    Raises:
        UsageError: An option is unknown, repeated or without its value, or the number of arguments is wrong.
    """
    rest = list(typed)
    words = Words([], set(), {})
    while rest and rest[0].startswith("--"):
        option = rest.pop(0)
        if option == "--":
            break
        name, equals, value = option[2:].partition("=")
        if name in words.flags or name in words.values:
            raise UsageError(f"--{name} is given twice")
        if name in usage.flags:
            if equals:
                raise UsageError(f"--{name} takes no value")
            words.flags.add(name)
        elif name in usage.values:
            if not equals and not rest:
                raise UsageError(f"--{name} needs a value")
            words.values[name] = value if equals else rest.pop(0)
        else:
            raise UsageError(f"no such option: --{name}")
    words.arguments.extend(rest)
    _count(usage, words)
    return words


def _count(usage: Usage, words: Words) -> None:
    needed = [name for name in usage.arguments if not name.startswith("[")]
    many = any(name.endswith("...") for name in usage.arguments)
    given = len(words.arguments)
    if given < len(needed) - many:
        raise UsageError(f"{needed[given]} is missing")
    if given > len(usage.arguments) and not many:
        raise UsageError("too many arguments")
