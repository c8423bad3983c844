"""What lives as long as the supervisord process: the caches, and how they get into each generation of it.

Supervisor builds its HTTP servers anew at each reload, in the same interpreter. One generation is what stands
between two reloads; the `Runtime` outlives them all.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from supervisor import events
from supervisor.options import ServerOptions
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from supervisor_cache.core.entry import Owner
from supervisor_cache.core.text import shown
from supervisor_cache.http.handler import CacheHandler, Confinement, with_login
from supervisor_cache.http.routes import Routes
from supervisor_cache.http.watching import Watchers
from supervisor_cache.server.backlog import Backlog
from supervisor_cache.server.guards import Policy, RequestGuard, hold_deferred, local_hosts
from supervisor_cache.server.log import Log, contain
from supervisor_cache.server.loop import LoopHook, wake_deferred
from supervisor_cache.server.namespace import Namespace
from supervisor_cache.server.owners import Processes
from supervisor_cache.server.publishing import Publishing
from supervisor_cache.server.rpc import CacheNamespaceRPCInterface
from supervisor_cache.server.settings import Settings, SettingsError, read_settings

_SHUTDOWN = SupervisorStates.SHUTDOWN


class Runtime:
    """Owns the namespaces across reloads, and makes what each generation of supervisord asks for."""

    def __init__(self) -> None:
        self._log = Log()
        self._backlog = Backlog(self._log)
        self._namespaces: dict[str, Namespace] = {}
        self._generation: Generation | None = None

    def interface(self, supervisord: Supervisor, factory: Callable[..., Any]) -> CacheNamespaceRPCInterface:
        """Make the RPC interface for the section and HTTP server whose turn it is.

        Supervisor calls its factories server by server, and for each server section by section, without saying
        which is meant. So the number of calls in this generation tells.

        Raises:
            SettingsError: At the start of supervisord, a section is wrong.
        """
        try:
            return self._current(supervisord, factory).interface()
        except Exception as error:
            if supervisord.options.first:
                raise
            # At a reload the processes are stopped by now: raising would end supervisord and keep them so.
            self._log.failure("the RPC interface factory", error)
            return self._spare(supervisord)

    def _current(self, supervisord: Supervisor, factory: Callable[..., Any]) -> "Generation":
        if self._generation is None or self._generation.supervisord is not supervisord:
            self._generation = Generation(
                supervisord, factory, self._log, self._backlog, self._namespaces, self._on_closed
            )
        return self._generation

    def _spare(self, supervisord: Supervisor) -> CacheNamespaceRPCInterface:
        namespace = Namespace.unusable("", "internal error; supervisord's log has it", self._log, self._backlog)
        return CacheNamespaceRPCInterface(namespace, "", SupervisordHost(supervisord), self._log)

    def _on_closed(self) -> None:
        """Let go of the supervisord that has served its last request, and of its logger."""
        self._generation = None
        self._log.use(None)


class SupervisordHost:
    """The running supervisord, as the RPC methods see it."""

    def __init__(self, supervisord: Supervisor) -> None:
        self._options = supervisord.options

    def shutting_down(self) -> bool:
        """Whether it is on its way out; a reload does not count."""
        return self._options.mood == _SHUTDOWN

    def identification(self) -> str:
        """The fixed string of its configuration file."""
        return str(self._options.identifier)

    def wake_deferred(self) -> None:
        """Have it look at all deferred replies in its next round."""
        wake_deferred(self._options.get_socket_map())

    def hold_deferred(self) -> None:
        """Have nothing taken in behind a request whose reply is deferred: its connection is closed behind the reply."""
        hold_deferred(self._options.get_socket_map())


class Generation:
    """One life of a `Supervisor` object, from its HTTP servers' being built to their being closed.

    Args:
        supervisord: The object that runs.
        factory: The function that our sections name.
        log: Where everything is said.
        backlog: What is still to be told of.
        namespaces: Those of the generations before; those of new sections are added.
        on_closed: Called when the last request of this generation has been served.
    """

    def __init__(
        self,
        supervisord: Supervisor,
        factory: Callable[..., Any],
        log: Log,
        backlog: Backlog,
        namespaces: dict[str, Namespace],
        on_closed: Callable[[], None],
    ) -> None:
        self.supervisord = supervisord
        self._host = SupervisordHost(supervisord)
        self._options: ServerOptions = supervisord.options
        self._log = log
        self._backlog = backlog
        self._namespaces = namespaces
        self._on_closed = on_closed
        self._calls = 0
        self._live: list[Namespace] = []
        self._interfaces: dict[str, dict[str, CacheNamespaceRPCInterface]] = {}
        self._watchers: dict[str, Watchers] = {}
        self._sections = {
            name: given for name, made_by, given in self._options.rpcinterface_factories if made_by is factory
        }
        self._servers = [config["section"] for config in self._options.server_configs]
        log.use(self._options.logger)
        if not self._sections:
            line = f"no [rpcinterface:x] section names {factory.__module__}:{factory.__name__} itself"
            self._refuse_to_start([line])
        self._configure()
        self._publishing = Publishing({name: namespaces[name] for name in self._sections}, log)
        events.subscribe(events.SupervisorRunningEvent, self._on_running)

    def interface(self) -> CacheNamespaceRPCInterface:
        """Make the next RPC interface."""
        server, section = divmod(self._calls, len(self._sections))
        self._calls += 1
        name = list(self._sections)[section]
        made = CacheNamespaceRPCInterface(self._namespaces[name], self._servers[server], self._host, self._log)
        self._interfaces.setdefault(self._servers[server], {})[name] = made
        return made

    def _configure(self) -> None:
        read: dict[str, Settings] = {}
        wrong: dict[str, list[str]] = {}
        for name, given in self._sections.items():
            try:
                read[name] = read_settings(name, given, self._servers, self._options.here or ".")
            except SettingsError as error:
                wrong[name] = error.lines
        self._find_shared_files(read, wrong)
        if wrong and self._options.first:
            self._refuse_to_start([line for lines in wrong.values() for line in lines])
        for name, settings in read.items():
            self._use(name, settings)
        for name, lines in wrong.items():
            self._do_without(name, "; ".join(lines))
        for name in self._namespaces.keys() - self._sections.keys():
            entries, settings = len(self._namespaces[name].cache), self._namespaces[name].settings
            where = ascii(settings.database) if settings.etcd is None else "etcd"
            if settings.database or settings.etcd is not None:
                del self._namespaces[name]
                self._log.warning(f"{name}: no longer configured; its {entries} entries stay in {where}")
            else:
                self._log.warning(
                    f"{name}: no longer configured; its {entries} entries are kept until supervisord ends"
                )

    def _find_shared_files(self, read: dict[str, Settings], wrong: dict[str, list[str]]) -> None:
        """Move sections whose file another one has from ``read`` to ``wrong``."""
        while self._found_shared_file(read, wrong):
            pass  # a section that keeps its old file may be in the way of another one

    def _found_shared_file(self, read: dict[str, Settings], wrong: dict[str, list[str]]) -> bool:
        kept = {name: self._namespaces[name].settings for name in wrong if name in self._namespaces}
        users: dict[object, str] = {}
        for name, settings in [*kept.items(), *read.items()]:
            path = settings.database or settings.mirror
            if not path:
                continue
            user = users.setdefault(_file(path), name)
            if user != name and name in read:
                option = "storage" if settings.database else "mirror"
                line = (
                    f"[rpcinterface:{name}] {option} = {shown(self._sections[name][option])}: [rpcinterface:{user}] "
                    "has this file; each needs one of its own"
                )
                wrong[name] = [line]
                del read[name]
                return True
        return False

    def _refuse_to_start(self, lines: list[str]) -> NoReturn:
        for line in lines:
            self._log.critical(line)
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or full: the log has it
                sys.stderr.write("".join(f"Error: {line}\n" for line in lines))
        raise SettingsError(lines)

    def _use(self, name: str, settings: Settings) -> None:
        namespace = self._namespaces.get(name)
        if namespace is None:
            namespace = self._namespaces[name] = Namespace(name, settings, self._log, self._backlog)
        namespace.configure(settings, self._servers)

    def _do_without(self, name: str, error: str) -> None:
        """Go on with a section that is wrong: the processes are stopped by now, and raising would keep them so."""
        namespace = self._namespaces.get(name)
        if namespace is None:
            self._namespaces[name] = Namespace.unusable(name, error, self._log, self._backlog)
            self._log.critical(f"{error}: this new namespace refuses every call until its section is right")
        else:
            namespace.keep_settings(error, self._servers)
            self._log.critical(f"{error}: the settings and the data of before stay in force")

    def _on_running(self, _event: events.Event) -> None:
        contain(self._log, "the subscriber to SUPERVISOR_STATE_CHANGE_RUNNING", None, self._enter_the_loop)

    def _on_round(self) -> None:
        for namespace in self._live:
            namespace.tidy()
        if self._publishing.do_slice():
            self._backlog.wake()
        self._backlog.do_slice()
        for watchers in self._watchers.values():
            contain(self._log, "telling of changes over HTTP", None, watchers.do_round)
        self._log.report_repeats()

    def _on_process_end(self, owner: Owner) -> None:
        for namespace in self._live:
            contain(self._log, "the release of what a process owned", None, namespace.cache.release, owner)
        self._publishing.forget(owner)

    def _close(self) -> None:
        for name, watchers in self._watchers.items():
            contain(self._log, "the closing of streams", None, watchers.close)
            # A section that is wrong at the reload keeps the observers that it has.
            cache = self._namespaces[name].cache
            cache.observers = tuple(observer for observer in cache.observers if observer is not watchers)
        for namespace in self._live:
            contain(self._log, "the closing of a namespace", None, namespace.close)
        self._publishing.clear()
        self._backlog.do_all()
        self._backlog.wake = _nothing
        self._on_closed()

    def _enter_the_loop(self) -> None:
        _, server = self._options.httpservers[0]
        hook = LoopHook(server, self._options.get_socket_map(), self._log, self._on_round, self._close)
        self._backlog.wake = hook.wake
        for config, server in self._options.httpservers:
            # The one that is installed last is asked first.
            self._serve(config, server, hook.wake)
            server.install_handler(RequestGuard(self._policy(config), self._log))
        self._live = list(self._namespaces.values())
        processes = Processes(self.supervisord)
        processes.on_end(self._log, self._on_process_end)
        self._publishing.subscribe(processes.all())
        for name, namespace in self._namespaces.items():
            namespace.processes = processes
            contain(self._log, "the opening of a namespace", None, namespace.open)
            if name in self._sections:
                self._log.info(namespace.describe())

    def _serve(self, config: dict[str, Any], server: Any, wake: Callable[[], None]) -> None:
        """Serve the caches under their paths, and confine the servers that are to serve nothing else."""
        section = config["section"]
        confined: dict[str, CacheNamespaceRPCInterface] = {}
        for name, interface in self._interfaces.get(section, {}).items():
            settings = self._namespaces[name].settings
            if settings.http:
                routes = Routes(self._namespaces[name], section, self._host, self._watchers_of(name, wake))
                server.install_handler(with_login(config, CacheHandler(name, routes, self._log)))
            if section in settings.confine:
                confined[name] = interface
        if confined:
            paths = tuple(f"/{name}/" for name in confined if self._namespaces[name].settings.http)
            confinement = Confinement(self.supervisord, confined, paths, self._log)
            server.install_handler(with_login(config, confinement))

    def _watchers_of(self, name: str, wake: Callable[[], None]) -> Watchers:
        found = self._watchers.get(name)
        if found is None:
            namespace = self._namespaces[name]
            found = self._watchers[name] = Watchers(namespace, self._log, wake, self._host.shutting_down)
            namespace.cache.observers = (*namespace.cache.observers, found)
        return found

    def _policy(self, config: dict[str, Any]) -> Policy:
        settings = [self._namespaces[name].settings for name in self._sections]
        return Policy(
            max_request_bytes=max(each.max_request_bytes for each in settings),
            allowed_hosts=frozenset().union(*(each.allowed_hosts for each in settings)),
            local_hosts=local_hosts(),
            guarded_paths=tuple(f"/{name}/" for name in self._sections),
            open_inet=config["family"] == socket.AF_INET and not config["username"],
        )


def _file(path: str) -> object:
    """Answer what tells whether two paths mean one file."""
    try:
        found = Path(path).stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def _nothing() -> None:
    """There is no loop to wake."""


RUNTIME = Runtime()
