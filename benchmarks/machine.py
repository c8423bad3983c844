"""On what the figures were measured."""

import datetime as dt
import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe() -> dict[str, str]:
    """Name the machine and the software, without its host name."""
    return {
        "Date": dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d"),
        "CPU": _line("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "Cores": str(os.cpu_count()),
        "Memory": _memory(),
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Supervisor": version("supervisor"),
        "supervisor_cache": version("supervisor_cache"),
    }


def _memory() -> str:
    kilobytes = _line("/proc/meminfo", "MemTotal").split()
    return f"{int(kilobytes[0]) / 2**20:.1f} GiB" if kilobytes else "unknown"


def _line(path: str, name: str) -> str:
    file = Path(path)
    if not file.exists():
        return ""
    found = [line for line in file.read_text().splitlines() if line.startswith(name)]
    return found[0].partition(":")[2].strip() if found else ""
