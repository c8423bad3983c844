"""From the words of a command line to options and arguments."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

_NONE: Mapping[str, str] = MappingProxyType({})


class UsageError(Exception):
    """The words do not fit the command."""


class Usage(NamedTuple):
    """What a command takes.

    Attributes:
        arguments: Names of the arguments, as the help shows them; ``[X]`` may be left out, ``X...`` repeats.
        flags: Options without a value.
        values: Options with a value, each with the word that the help shows for it.
        lists: Options with a value that may be given several times, likewise.
    """

    arguments: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    values: Mapping[str, str] = _NONE
    lists: Mapping[str, str] = _NONE

    def line(self, command: str) -> str:
        """Show what to type."""
        options = [f"[--{name} {word}]" for name, word in self.values.items()]
        options += [f"[--{name} {word}]..." for name, word in self.lists.items()]
        options += [f"[--{name}]" for name in self.flags]
        return " ".join([command, *options, *self.arguments])


class Words(NamedTuple):
    """What was typed, taken apart.

    Attributes:
        arguments: What stands after the options.
        flags: The options without a value that were given.
        values: The options with a value that were given.
        lists: All values of each option that may be given several times.
    """

    arguments: list[str]
    flags: set[str]
    values: dict[str, str]
    lists: dict[str, list[str]]


def take_apart(usage: Usage, typed: Sequence[str]) -> Words:
    """Take ``typed`` apart: options first, ended by the first word without ``--``, or by ``--`` itself.

    Raises:
        UsageError: An option is unknown, repeated or without its value, or the number of arguments is wrong.
    """
    rest = list(typed)
    words = Words([], set(), {}, {})
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
            continue
        if name not in usage.values and name not in usage.lists:
            raise UsageError(f"no such option: --{name}")
        if not equals:
            if not rest:
                raise UsageError(f"--{name} needs a value")
            value = rest.pop(0)
        if name in usage.lists:
            words.lists.setdefault(name, []).append(value)
        else:
            words.values[name] = value
    words.arguments.extend(rest)
    _count(usage, words)
    return words


def _count(usage: Usage, words: Words) -> None:
    # Whether a KEY... may be missing is for the command to say.
    needed = [name for name in usage.arguments if not name.startswith("[") and "..." not in name]
    many = any("..." in name for name in usage.arguments)
    given = len(words.arguments)
    if given < len(needed):
        raise UsageError(f"{needed[given]} is missing")
    if given > len(usage.arguments) and not many:
        late = any(word.startswith("--") for word in words.arguments)
        raise UsageError("too many arguments" + (": options stand before them" if late else ""))
