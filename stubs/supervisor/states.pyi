class SupervisorStates:
    FATAL: int
    RUNNING: int
    RESTARTING: int
    SHUTDOWN: int

class ProcessStates:
    STARTING: int
    RUNNING: int
    STOPPING: int
    UNKNOWN: int
    BACKOFF: int
    EXITED: int
    STOPPED: int
    FATAL: int
