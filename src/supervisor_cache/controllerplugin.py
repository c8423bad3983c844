"""What ``supervisor.ctl_factory`` names in the configuration file of ``supervisorctl``."""

import os
import re
import shlex
import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from xmlrpc.client import ProtocolError

from supervisor.supervisorctl import Controller, ControllerPluginBase

from supervisor_cache.core.text import shown
from supervisor_cache.ctl.arguments import UsageError, take_apart
from supervisor_cache.ctl.output import UnshowableError, complain, write
from supervisor_cache.ctl.session import REFUSED, USAGE, FailureError, Session
from supervisor_cache.ctl.verbs import VERBS, Verb
from supervisor_cache.errors import CacheError

__all__ = ["CacheControllerPlugin", "make_cache_controllerplugin"]

DEFAULT_NAMESPACE = "cache"


class _Commands(ControllerPluginBase):
    """Runs the verbs of one namespace. A subclass for the namespace gives them the names that supervisorctl sees."""

    namespace = DEFAULT_NAMESPACE

    def __init__(self, controller: Controller) -> None:
        self.ctl = controller

    def do_help(self, arg: str) -> None:
        # Without a docstring, which would list it as a command. For our own alone: supervisorctl asks every plugin.
        if not arg or hasattr(self, f"help_{arg}"):
            super().do_help(arg)

    def _run(self, verb: Verb, command: str, line: str) -> None:
        about = command
        try:
            words = take_apart(verb.usage, self._typed(command, line))
            about = next(filter(None, words.arguments), command)
            # Connects anew for each command: a login at the prompt changes the password.
            connect = partial(self.ctl.get_server_proxy, self.namespace)
            verb.run(Session(connect, self.namespace, self.ctl.options.serverurl), words, self._say)
        except UsageError as error:
            self._fail(USAGE, command, str(error))
            if sys.stderr is not None:
                sys.stderr.write(f"usage: {verb.usage.line(command)}\n")
        except CacheError as error:
            self._fail(USAGE, about, error.fault_string)
        except FailureError as failure:
            self._fail(failure.status, failure.subject or about, failure.reason)
        except ProtocolError:
            # 401. At the prompt, supervisorctl asks for the password and comes again.
            if self.ctl.options.interactive:
                raise
            self._fail(REFUSED, self.ctl.options.serverurl, "user or password missing or wrong")
        except UnshowableError as error:
            self._fail(REFUSED, about, str(error))
        except OSError as error:
            # Of stdout: a pipe that is closed has seen enough. Either way Python must not try again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):
                self._fail(REFUSED, "stdout", error.strerror or str(error))

    def _typed(self, command: str, line: str) -> list[str]:
        """Answer the words after the command. supervisorctl joins its arguments; where it has them, take those."""
        arguments: list[str] = self.ctl.options.args or []
        if arguments[:1] == [command]:
            return arguments[1:]
        try:
            return shlex.split(line)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def _say(self, text: str) -> None:
        write(self.ctl.stdout, text)

    def _fail(self, status: int, subject: str, reason: str) -> None:
        complain(subject, reason)
        self.ctl.exitstatus = status


def _plugin_class(namespace: str) -> type[_Commands]:
    """Make the class whose ``do_`` and ``help_`` methods are the commands of ``namespace``."""
    members: dict[str, Any] = {"namespace": namespace, "__doc__": f"The commands of the namespace {namespace}."}
    for verb in VERBS:
        # supervisorctl's prompt ends a command's name at the first hyphen.
        command = f"{namespace.replace('-', '_')}_{verb.name}"
        members[f"do_{command}"] = _command(verb, command)
        members[f"help_{command}"] = _help(verb, command)
    return type("CacheControllerPlugin", (_Commands,), members)


def _command(verb: Verb, command: str) -> Callable[[_Commands, str], None]:
    def run(self: _Commands, line: str) -> None:
        self._run(verb, command, line)

    return run


def _help(verb: Verb, command: str) -> Callable[[_Commands], None]:
    def show(self: _Commands) -> None:
        self.ctl.output(f"{verb.usage.line(command)}\t{verb.help}")

    return show


CacheControllerPlugin = _plugin_class(DEFAULT_NAMESPACE)


def make_cache_controllerplugin(controller: Controller, **options: str) -> ControllerPluginBase:
    """Make the commands of the namespace that the option ``namespace`` names, ``cache`` if it is not there.

    A wrong section is complained of and does not keep supervisorctl from its other work.
    """
    namespace = options.pop("namespace", DEFAULT_NAMESPACE).strip()
    for option, text in options.items():
        complain(f"[ctlplugin] {option} = {shown(text)}", "unknown option; known is namespace")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", namespace):
        complain(f"[ctlplugin] namespace = {shown(namespace)}", "must be a letter, then letters, digits, _ and -")
        namespace = DEFAULT_NAMESPACE
    return _plugin_class(namespace)(controller)
