"""What ``supervisor.ctl_factory`` names in the configuration file of ``supervisorctl``."""

import re
from collections.abc import Callable
from typing import Any

from supervisor.supervisorctl import Controller, ControllerPluginBase

from supervisor_cache.commands.output import complain
from supervisor_cache.commands.verbs import VERBS, Verb
from supervisor_cache.core.text import shown
from supervisor_cache.ctl.commands import DEFAULT_NAMESPACE, Commands

__all__ = ["CacheControllerPlugin", "make_cache_controllerplugin"]


def _plugin_class(namespace: str) -> type[Commands]:
    """Make the class whose ``do_`` and ``help_`` methods are the commands of ``namespace``."""
    members: dict[str, Any] = {"namespace": namespace, "__doc__": f"The commands of the namespace {namespace}."}
    for verb in VERBS:
        # supervisorctl's prompt ends a command's name at the first hyphen.
        command = f"{namespace.replace('-', '_')}_{verb.name}"
        members[f"do_{command}"] = _command(verb, command)
        members[f"help_{command}"] = _help(verb, command)
    return type("CacheControllerPlugin", (Commands,), members)


def _command(verb: Verb, command: str) -> Callable[[Commands, str], None]:
    def run(self: Commands, line: str) -> None:
        self.run(verb, command, line)

    return run


def _help(verb: Verb, command: str) -> Callable[[Commands], None]:
    def show(self: Commands) -> None:
        self.ctl.output(f"{verb.usage.line(command)}\t{verb.help}")

    return show


CacheControllerPlugin = _plugin_class(DEFAULT_NAMESPACE)


def make_cache_controllerplugin(controller: Controller, /, **options: str) -> ControllerPluginBase:
    """Make the commands of the namespace that the option ``namespace`` names, ``cache`` if it is not there.

    A wrong section is complained of and does not keep supervisorctl from its other work.
    """
    section = f"[ctlplugin:{_section(controller)}]"
    namespace = options.pop("namespace", DEFAULT_NAMESPACE).strip()
    for option, text in options.items():
        complain(f"{section} {option} = {shown(text)}", "unknown option; known is namespace")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", namespace):
        complain(f"{section} namespace = {shown(namespace)}", "must be a letter, then letters, digits, _ and -")
        namespace = DEFAULT_NAMESPACE
    return _plugin_class(namespace)(controller)


def _section(controller: Controller) -> str:
    # supervisorctl makes its plugins in this order, and names none of them.
    made, factories = len(controller.options.plugins), controller.options.plugin_factories
    return factories[made][0] if made < len(factories) else "?"
