"""Where the command begins: Ctrl-C is told by its status alone, also while the rest is being imported."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command, and end with its status."""
    try:
        from supervisor_cache.cli.main import dispatch  # noqa: PLC0415 - see above

        status = dispatch(sys.argv[1:])
    except KeyboardInterrupt:
        status = _INTERRUPTED
    _forget_what_stderr_did_not_take()
    sys.exit(status)


def _forget_what_stderr_did_not_take() -> None:
    """Keep Python from trying again at exit: from 3.12 on, the status would be another one where that fails."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        sys.stderr = None
