"""An event listener that writes each event, as a line of JSON, to the file named by its argument."""

import json
import sys
from pathlib import Path


def main() -> None:
    path = Path(sys.argv[1])
    while True:
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            return
        header = dict(token.split(":") for token in line.split())
        payload = sys.stdin.read(int(header["len"]))
        with path.open("a") as events:
            events.write(json.dumps([header["eventname"], payload]) + "\n")
        sys.stdout.write("RESULT 2\nOK")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
