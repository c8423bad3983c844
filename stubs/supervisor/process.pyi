from typing import Any

class ProcessConfig:
    name: str
    stdout_capture_maxbytes: int

class Group:
    config: Any
    processes: dict[str, Subprocess]

class Subprocess:
    pid: int
    state: int
    config: ProcessConfig
    group: Group | None
