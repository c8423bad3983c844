"""Runs one verb as a command of supervisorctl."""

import pprint
import shlex
from functools import partial
from xmlrpc.client import ProtocolError

from supervisor.supervisorctl import Controller, ControllerPluginBase

from supervisor_cache.client.cache import CacheClient
from supervisor_cache.commands.arguments import UsageError
from supervisor_cache.commands.failures import INTERRUPTED
from supervisor_cache.commands.output import Out
from supervisor_cache.commands.running import run, with_usage
from supervisor_cache.commands.verbs import Verb
from supervisor_cache.ctl.caller import ProxyCaller
from supervisor_cache.errors import AccessDeniedError

DEFAULT_NAMESPACE = "cache"
_UNAUTHORIZED = 401


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
        out = Out(self.ctl.stdout, pprint.pformat)
        options = self.ctl.options

        def connect() -> CacheClient:
            # Anew for each command: a login at the prompt changes the password.
            proxy = partial(self.ctl.get_server_proxy, self.namespace)
            return CacheClient(ProxyCaller(proxy, self.namespace, options.serverurl))

        def work() -> int:
            typed = self._typed(command, line)
            if typed == ["--help"]:
                out.say(f"{verb.usage.line(command)}\t{verb.help}")
                return 0
            return run(verb, command, typed, connect, self.namespace, out, asks_for_password=bool(options.interactive))

        try:
            status = with_usage(work, command, verb.usage.line(command))
        except AccessDeniedError:
            # supervisorctl asks for the password and comes again.
            raise ProtocolError(options.serverurl, _UNAUTHORIZED, "", {}) from None
        if status:
            self.ctl.exitstatus = status

    def _typed(self, command: str, line: str) -> list[str]:
        """Answer the words after the command. supervisorctl joins its arguments; where it has them, take those."""
        arguments: list[str] = self.ctl.options.args or []
        if arguments[:1] == [command]:
            return arguments[1:]
        try:
            return shlex.split(line)
        except ValueError as error:
            raise UsageError(str(error)) from None
