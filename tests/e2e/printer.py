"""A supervised program that prints each file that appears in a folder, and takes it away."""

import os
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])
while True:
    for path in sorted(folder.glob("[0-9][0-9][0-9]")):
        data = path.read_bytes()
        while data:
            data = data[os.write(1, data) :]
        path.unlink()
    time.sleep(0.01)
