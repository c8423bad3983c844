"""The files of a database: where they may be, whose they are, and the eight bytes that tell its readers of a change."""

import errno
import fcntl
import os
import stat
import struct
import sys
import time
from contextlib import suppress

from supervisor_cache.core import generation

COMPANIONS = ("-wal", "-shm")
# Why a file was set aside.
CORRUPT = "corrupt"
REPLACED = "replaced"
# To so many bytes SQLite cuts a log that begins anew; never to less, and never the database.
LARGE_LOG = 4 * 1024 * 1024
# Changes of a folder within a tick of the kernel's clock can have the same time.
_TICK_SECONDS = 0.1
# ``struct flock`` of Linux.
_FLOCK = "hhlli"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Trouble(Exception):  # noqa: N818 - it is told, not raised at anybody
    """The database cannot be used; the text says why. It is left alone, and tried again."""


class Place:
    """The path of a database, taken by one supervisord at a time.

    The generation file beside the database is 8 bytes that tell readers, who map it into their memory, of a change,
    then the process id of the supervisord that holds it, a mark of its own, and how often it has written what no change
    in the history tells. It is written with ``pwrite`` alone, never replaced, never made shorter.

    Attributes:
        changed_hands: Whether another supervisord has written to the database since this one had let go of it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._wal = f"{path}-wal"
        self._folder = os.path.dirname(path)
        self._unchanged_since = (0.0, 0, 0)
        self._mode = 0o600
        self._owner = (-1, -1)
        self._generation = 0
        self._descriptor = -1
        # A process id may be that of several, in containers that share a folder.
        self._mark = os.urandom(8)
        self._tellings = 0
        self.changed_hands = False
        self._made: tuple[int, int] = (0, 0)
        self._identity: tuple[int, int] = (0, 0)
        self._wal_identity: tuple[int, int] = (0, 0)
        # Of the log, to see its size. SQLite has no locks on it that closing this one could take away.
        self._log = -1
        self._log_size = 0
        self._size = 0

    @property
    def is_taken(self) -> bool:
        """Whether the path is held."""
        return self._descriptor >= 0

    def take(self, mode: int, owner: tuple[int, int]) -> None:
        """Hold the path, and have a file there that may be opened. One that is not the file of before is set aside.

        Args:
            mode: Permissions of all files.
            owner: User and group of all files, -1 for "as it is".

        Raises:
            Trouble: Something is wrong with the folder or a file, or another supervisord holds it.
            OSError: Likewise.
        """
        self._mode, self._owner = mode, owner
        self._check_folder()
        if self._descriptor >= 0 and self._has_lost_generation():
            self.release()
        if self._descriptor < 0:
            self._hold()
        if self.changed_hands:
            # What is there is what the other one has acknowledged, whatever file it is in.
            self._identity = (0, 0)
        self._clear_the_way()
        descriptor, made = self._open_or_make(self._path)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Trouble("it is no regular file")
            if made:
                self._permit(descriptor)
                self._made = self._identity = found.st_dev, found.st_ino
        finally:
            os.close(descriptor)

    def _clear_the_way(self) -> None:
        if not os.path.lexists(self._path):
            # A reader may have them open, and SQLite would go by what they say of a database that is not there.
            self._unlink_companions()
        elif self._identity == (0, 0):
            return
        elif _identity(self._path) != self._identity:
            self.set_aside(REPLACED)
        elif not self._has_own_log():
            self._unlink_companions()
            if not os.stat(self._path).st_size:
                # Its readers have locks on it: what would be written into it is better in another file.
                os.unlink(self._path)

    def permit(self) -> None:
        """Give the database and its companions their mode and owner. It is ours by now."""
        # By name: to close a descriptor of them would take SQLite's locks away.
        for path in (self._path, *(self._path + companion for companion in COMPANIONS)):
            with suppress(FileNotFoundError):
                found = os.lstat(path)
                if self._owner not in {(-1, -1), (found.st_uid, found.st_gid)}:
                    os.chown(path, *self._owner, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) != self._mode:
                    os.chmod(path, self._mode)

    def opened(self, *, tell: bool) -> None:
        """Note which files SQLite has opened, and ``tell`` readers to look."""
        self._unchanged_since = (0.0, 0, 0)
        self._made = (0, 0)
        self._identity = _identity(self._path)
        self._wal_identity = (0, 0)
        self._close_log()
        with suppress(OSError):
            self._wal_identity = _identity(self._wal)
            self._log = os.open(self._wal, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.see_sizes()
        if tell:
            self.bump()

    def was_used(self) -> bool:
        """Whether there has been a database in this very file before."""
        return self._generation > 0 and self._made == (0, 0)

    def has_moved(self) -> bool:
        """Whether the files that are open are not the ones that others find any more, or the log has been cut."""
        try:
            if self._log_end() < self._log_size:
                return True
            found = os.stat(self._folder)
            # Not when it was modified: whoever unpacks an archive there sets that back.
            changed = found.st_ctime, found.st_ino, found.st_dev
            if changed == self._unchanged_since:
                return False
        except OSError:
            return True
        if self.has_lost_files():
            return True
        # Nothing is made, renamed or deleted without the folder's time changing, but for what follows at once.
        if found.st_ctime < time.time() - _TICK_SECONDS:
            self._unchanged_since = changed
        return False

    def has_lost_files(self) -> bool:
        """Whether the files that are open are not the ones that others find any more, whatever the folder says."""
        try:
            if _identity(self._path) != self._identity:
                return True
        except OSError:
            return True
        return not self._has_own_log() or self._has_lost_generation()

    def _has_own_log(self) -> bool:
        with suppress(OSError):
            return _identity(self._wal) == self._wal_identity
        return False

    def has_shrunk(self) -> bool:
        """Whether the database or its log is shorter than SQLite itself makes them."""
        size, log_size = self.sizes()
        if size < self._size or log_size < min(self._log_size, LARGE_LOG):
            return True
        self._size, self._log_size = size, log_size
        return False

    def sizes(self) -> tuple[int, int]:
        """Answer the bytes of the database and of its log."""
        sizes = [0, 0]
        for number, path in enumerate((self._path, self._wal)):
            with suppress(OSError):
                sizes[number] = os.stat(path).st_size
        return sizes[0], sizes[1]

    def see_sizes(self) -> None:
        """Take note that database and log are as long as they should be."""
        self._size, self._log_size = self.sizes()

    def free_bytes(self) -> int:
        """Answer how much room the file system has."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def is_whole(self) -> bool:
        """Whether all files that are open are the ones that others find, and none is shorter than it should be."""
        return not self.has_lost_files() and not self.has_shrunk()

    def _has_lost_generation(self) -> bool:
        try:
            found = os.fstat(self._descriptor)
            return _identity(self._path + generation.SUFFIX) != (found.st_dev, found.st_ino)
        except OSError:
            return True

    def bump(self) -> None:
        """Tell readers that something has changed; it is in the log."""
        self._generation = (self._generation + 1) % generation.GONE
        self.beat()
        self.see_log()

    def bump_epoch(self) -> None:
        """Tell readers that more is another one than the history says: they read all of it."""
        self._tellings += 1
        with suppress(OSError):
            os.pwrite(self._descriptor, self._epoch(), generation.EPOCH.start)
        self.bump()

    def _epoch(self) -> bytes:
        return self._mark + self._tellings.to_bytes(8, "little")

    def see_log(self) -> None:
        """Take note that the log is as long as a commit has left it."""
        try:  # noqa: SIM105 - this runs at every commit
            self._log_size = self._log_end()
        except OSError:
            pass

    def _log_end(self) -> int:
        # Descriptors may have run out when it was to be opened.
        return os.lseek(self._log, 0, os.SEEK_END) if self._log >= 0 else os.stat(self._wal).st_size

    def beat(self) -> None:
        """Show readers that supervisord is there."""
        # What happened has happened; if this cannot be written now, the next beat tells of it.
        try:  # noqa: SIM105 - this runs at every commit
            os.pwrite(self._descriptor, self._generation.to_bytes(generation.BYTES, "little"), 0)
        except OSError:
            pass

    def set_aside(self, why: str) -> str:
        """Give the database and its companions a name with ``why`` and the time; answer it."""
        stem = name = f"{self._path}.{why}-{time.strftime('%Y%m%dT%H%M%S')}"
        number = 1
        while any(os.path.lexists(name + companion) for companion in ("", *COMPANIONS)):
            number += 1
            name = f"{stem}-{number}"
        for companion in COMPANIONS:
            with suppress(FileNotFoundError):
                if why == REPLACED and self._is_left_over(companion):
                    os.unlink(self._path + companion)
                else:
                    os.rename(self._path + companion, name + companion)
        os.rename(self._path, name)
        self._identity = (0, 0)
        return name

    def _unlink_companions(self) -> None:
        for companion in COMPANIONS:
            with suppress(FileNotFoundError):
                os.unlink(self._path + companion)

    def _close_log(self) -> None:
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _is_left_over(self, companion: str) -> bool:
        # The log of the file that was here before: SQLite would apply it to whatever file has its name.
        return companion != "-wal" or self._has_own_log()

    def release(self) -> None:
        """Let another supervisord take it. Readers of a generation file that has been lost look for another one."""
        self._close_log()
        if self._descriptor < 0:
            return
        if self._has_lost_generation():
            with suppress(OSError):
                os.pwrite(self._descriptor, generation.GONE.to_bytes(generation.BYTES, "little"), 0)
        os.close(self._descriptor)
        self._descriptor = -1

    def _check_folder(self) -> None:
        found = os.stat(self._folder)
        if found.st_uid not in {0, os.geteuid()}:
            raise Trouble(f"the folder belongs to user {found.st_uid}, neither to root nor to supervisord's")
        if found.st_mode & _OTHERS_WRITE:
            raise Trouble("the folder can be written to by others than its owner")

    def _hold(self) -> None:
        descriptor, made = self._open_or_make(self._path + generation.SUFFIX)
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in {errno.EACCES, errno.EAGAIN}:
                    raise
                raise Trouble(f"in use by pid {_holder(descriptor)}") from None
            number = int.from_bytes(os.pread(descriptor, generation.BYTES, 0), "little")
            is_own = os.pread(descriptor, len(self._mark), generation.EPOCH.start) == self._mark
            if made or number == generation.GONE or is_own:  # or a copy of before, that somebody has put back
                number = self._generation
            if self._generation and number != self._generation:
                self.changed_hands = True
            self._generation = number
            self._permit(descriptor)
            data = self._generation.to_bytes(generation.BYTES, "little") + os.getpid().to_bytes(8, "little")
            os.pwrite(descriptor, data + self._epoch(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _open_or_make(self, path: str) -> tuple[int, bool]:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, self._mode), True
        return os.open(path, flags), False

    def _permit(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if self._owner not in {(-1, -1), (found.st_uid, found.st_gid)}:
            os.fchown(descriptor, *self._owner)
        if stat.S_IMODE(found.st_mode) != self._mode:
            os.fchmod(descriptor, self._mode)


def _holder(descriptor: int) -> int:
    """Answer the process that has a lock on a generation file, which may be none of supervisord's."""
    if sys.platform == "linux":
        with suppress(OSError):
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            pid: int = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[-1]
            if pid > 0:  # in this container
                return pid
    return int.from_bytes(os.pread(descriptor, generation.BYTES, generation.BYTES), "little")


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
