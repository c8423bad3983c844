"""Runs one verb as a command of supervisorctl."""

import os
import shlex
import sys
from functools import partial
from xmlrpc.client import ProtocolError

from supervisor.supervisorctl import Controller, ControllerPluginBase

from supervisor_cache.ctl.arguments import UsageError, take_apart
from supervisor_cache.ctl.output import UnshowableError, complain, say_on_stderr, write
from supervisor_cache.ctl.session import INTERRUPTED, REFUSED, USAGE, FailureError, Session
from supervisor_cache.ctl.verbs import Verb
from supervisor_cache.errors import CacheError

DEFAULT_NAMESPACE = "cache"


class Commands(ControllerPluginBase):
    """Runs the verbs of one namespace. A subclass for the namespace gives them the names that supervisorctl sees."""

    namespace = DEFAULT_NAMESPACE

    def __init__(self, controller: Controller) -> None:
        self.ctl = controller

    def do_help(self, arg: str) -> None:  # noqa: D102 - see below
        # Without a docstring, which would list it as a command. For our own alone: supervisorctl asks every plugin.
        if not arg or hasattr(self, f"help_{arg}"):
            super().do_help(arg)

    def run(self, verb: Verb, command: str, line: str) -> None:
        """Run ``verb`` as it was typed, and leave the exit status where supervisorctl looks for it."""
        try:
            self._run(verb, command, line)
        except KeyboardInterrupt:
            # At the prompt, supervisorctl's own affair.
            if self.ctl.options.interactive:
                raise
            self.ctl.exitstatus = INTERRUPTED

    def _run(self, verb: Verb, command: str, line: str) -> None:
        about = command
        try:
            typed = self._typed(command, line)
            if typed == ["--help"]:
                self.say(f"{verb.usage.line(command)}\t{verb.help}")
                return
            words = take_apart(verb.usage, typed)
            about = (words.arguments or [""])[0] or command
            # Connects anew for each command: a login at the prompt changes the password.
            connect = partial(self.ctl.get_server_proxy, self.namespace)
            verb.run(Session(connect, self.namespace, self.ctl.options.serverurl), words, self.say)
        except UsageError as error:
            self._fail(USAGE, command, str(error))
            say_on_stderr(f"usage: {verb.usage.line(command)}")
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

    def say(self, text: str) -> None:
        """Show a line of the answer."""
        write(self.ctl.stdout, text)

    def _fail(self, status: int, subject: str, reason: str) -> None:
        complain(subject, reason)
        self.ctl.exitstatus = status
