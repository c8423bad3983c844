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
    sys.exit(status)
