class SupervisorStates:
    FATAL: int
    RUNNING: int
    RESTARTING: int
    SHUTDOWN: int
