"""``config``: the sections of the configuration file."""

import os
import stat
import sys
from collections.abc import Iterator

from supervisor_cache.cli.globals import Globals
from supervisor_cache.client import configuration
from supervisor_cache.client.configuration import Configuration
from supervisor_cache.commands.arguments import Words
from supervisor_cache.commands.failures import NO
from supervisor_cache.commands.output import Out, complain, say_on_stderr
from supervisor_cache.core.entry import KINDS
from supervisor_cache.core.text import shown
from supervisor_cache.errors import AddressError
from supervisor_cache.server.settings import Settings, SettingsError, read_settings

_FACTORY = "supervisor.rpcinterface_factory"
_OURS = "supervisor_cache.rpcinterface:make_cache_rpcinterface"
_CTL_FACTORY = "supervisor.ctl_factory"
_CTL_OURS = "supervisor_cache.controllerplugin:make_cache_controllerplugin"
_SERVERS = ("inet_http_server", "unix_http_server")
_EVENTS = ("CACHE", *(f"CACHE_{kind.upper()}" for kind in KINDS))
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_SECTIONS = """\
; The cache, in supervisord. Restart supervisord once: a new package is not seen by a reload.
[rpcinterface:{name}]
{factory} = {ours}
;storage = sqlite:/var/lib/supervisor/{name}.db   ; memory: kept over reloads, lost when supervisord ends
;http = true                                      ; a page and a JSON interface, at /{name}/ of each server
;read_only = inet_http_server                     ; servers on which nothing can be written
;publish = web:* worker:*                         ; processes that may publish about themselves
;max_entries = 10000
;max_value_bytes = 64KB
;max_total_bytes = 16MB
;log_changes = true

; Its commands, in supervisorctl: here, in the main file, for it reads no includes.
[ctlplugin:{name}]
{ctl_factory} = {ctl_ours}
"""


def run(options: Globals, words: Words) -> int:
    """Print the sections to paste, or tell what is wrong in a file."""
    out = Out(sys.stdout)
    if "check" not in words.values:
        text = _SECTIONS.format(
            name=options.namespace, factory=_FACTORY, ours=_OURS, ctl_factory=_CTL_FACTORY, ctl_ours=_CTL_OURS
        )
        if options.namespace != "cache":
            text += f"namespace = {options.namespace}\n"
        out.say(text.rstrip("\n"))
        return 0
    path = words.values["check"]
    found = configuration.read(path, os.environ)
    caches, wrong = _caches(found)
    wrong += _servers(found)
    wrong += _commands(found, set(caches))
    for line in wrong:
        complain(path, line)
    for line in (*found.notes, *_notes(found, caches)):
        say_on_stderr(f"{path}: note: {line}")
    if wrong:
        return NO
    for name, settings in caches.items():
        out.say(f"[rpcinterface:{name}] is all right: storage {_place(settings)}")
    return 0


def _place(settings: Settings) -> str:
    if settings.etcd is not None:
        return f"etcd://{','.join(settings.etcd.members)}{settings.etcd.prefix.removesuffix('/')}"
    return settings.database or "memory"


def _caches(found: Configuration) -> tuple[dict[str, Settings], list[str]]:
    """Read the sections of the cache; answer those that are right, and what is wrong with the others."""
    caches: dict[str, Settings] = {}
    wrong: list[str] = []
    servers = [section for section in found.sections if section.startswith(_SERVERS)]
    for section, options in found.sections.items():
        for factory, right in ((_FACTORY, _OURS), (_CTL_FACTORY, _CTL_OURS)):
            given = options.get(factory, right)
            if "supervisor_cache" in given and given != right:
                wrong.append(f"[{section}] {factory} = {shown(given)}: must be {right}")
    named = [section for section, options in found.sections.items() if options.get(_FACTORY) == _OURS]
    for section in named:
        if not section.startswith("rpcinterface:"):
            wrong.append(f"[{section}]: must be [rpcinterface:NAME]")
            continue
        name = section.partition(":")[2]
        try:
            caches[name] = read_settings(name, _expanded(found, section), servers, found.here)
        except SettingsError as error:
            wrong += error.lines
        except AddressError as error:
            wrong.append(error.text)
    if not named:
        wrong.append(f"no section has {_FACTORY} = {_OURS}; `supervisor-cache config` prints one")
    return caches, [*wrong, *_databases(caches)]


def _expanded(found: Configuration, section: str) -> dict[str, str]:
    """Answer the options of a section as Supervisor hands them on."""
    known = configuration.expansions(found.here, os.environ)
    if "include" not in found.sections:
        del known["here"]  # it is known there only by accident
    return {
        option: configuration.expand(text, known, f"[{section}] {option}")
        for option, text in found.sections[section].items()
        if option != _FACTORY
    }


def _databases(caches: dict[str, Settings]) -> Iterator[str]:
    users: dict[str, str] = {}
    for name, settings in caches.items():
        path = settings.database or settings.mirror
        if not path:
            continue
        given = f"storage = {shown('sqlite:' + path)}" if settings.database else f"mirror = {shown(path)}"
        what = f"[rpcinterface:{name}] {given}"
        user = users.setdefault(os.path.realpath(path), name)
        if user != name:
            yield f"{what}: [rpcinterface:{user}] has this file; each needs one of its own"
        try:
            folder = os.stat(os.path.dirname(path))
        except OSError as error:
            yield f"{what}: the folder: {error.strerror}"
            continue
        if folder.st_mode & _OTHERS_WRITE:
            yield f"{what}: the folder can be written to by others than its owner"


def _servers(found: Configuration) -> Iterator[str]:
    if "supervisord" not in found.sections:
        yield "there is no [supervisord] section: supervisord does not start without"
    for section, options in found.sections.items():
        if section.startswith("eventlistener:"):
            for name in options.get("events", "").replace(" ", "").split(","):
                if name.startswith("CACHE") and name not in _EVENTS:
                    yield f"[{section}] events: there is no {shown(name)}; there are {', '.join(_EVENTS)}"
    if not any(section.startswith(_SERVERS) for section in found.sections):
        yield "neither [unix_http_server] nor [inet_http_server]: without one there is no cache"
    elif "rpcinterface:supervisor" not in found.sections:
        yield "there is no [rpcinterface:supervisor]: supervisorctl needs it"


def _commands(found: Configuration, caches: set[str]) -> Iterator[str]:
    for section, options in found.sections.items():
        if options.get(_CTL_FACTORY) != _CTL_OURS:
            continue
        if found.origins[section] != found.path:
            yield f"[{section}] stands in {found.origins[section]}: supervisorctl reads no includes"
        for option, text in options.items():
            if option not in {_CTL_FACTORY, "namespace"}:
                yield f"[{section}] {option} = {shown(text)}: unknown option; known is namespace"
        namespace = options.get("namespace", "cache")
        if caches and namespace not in caches:
            yield f"[{section}] namespace = {shown(namespace)}: there is no [rpcinterface:{namespace}] of the cache"


def _notes(found: Configuration, caches: dict[str, Settings]) -> Iterator[str]:
    """Tell what works, and probably not as it was meant."""
    programs = {section.partition(":")[2] for section in found.sections if section.startswith("program:")}
    for name, settings in caches.items():
        for line in settings.excess():
            yield f"[rpcinterface:{name}] {line}"
        for pattern in settings.publish:
            program = pattern.partition(":")[2].partition("_")[0]
            options = found.sections.get(f"program:{program}", {})
            if program in programs and "stdout_capture_maxbytes" not in options:
                yield f"[program:{program}] has no stdout_capture_maxbytes, which publishing in {name} needs"
    if not any(options.get(_CTL_FACTORY) == _CTL_OURS for options in found.sections.values()):
        yield "no [ctlplugin:...] section: supervisorctl will have no cache_ commands"
