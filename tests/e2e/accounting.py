"""An RPC extension that tells how much memory is in use inside supervisord, by Python and by all that it calls.

It sees everything where ``PYTHONMALLOC=malloc`` has Python itself ask the C library for each piece.
"""

import ctypes
import gc

_COUNTS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Mallinfo(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_size_t) for name in _COUNTS)


class Accounting:
    """Answers how many bytes are in use, once what is not reachable is gone."""

    def in_use(self) -> int:
        """Return the number of bytes

        @return int  The number of bytes
        """
        gc.collect()
        mallinfo = ctypes.CDLL(None).mallinfo2
        mallinfo.restype = _Mallinfo
        found = mallinfo()
        return int(found.uordblks + found.hblkhd)


def make_accounting(_supervisord: object) -> Accounting:
    return Accounting()
