"""An RPC extension that has streams over HTTP speak, and give up, sooner than they do."""

from supervisor_cache.http import watching


class Haste:
    """Has nothing to say."""


def make_haste(_supervisord: object, comment: str = "15", stalled: str = "60") -> Haste:
    watching._COMMENT = float(comment)
    watching._STALLED = float(stalled)
    return Haste()
