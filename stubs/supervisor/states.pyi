class SupervisorStates:
    FATAL: int
    RUNNING: int
    RESTARTING: int
    SHUTDOWN: int

class ProcessStates:
    STARTING: int
    RUNNING: int
    STOPPING: int
