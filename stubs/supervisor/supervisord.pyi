from supervisor.options import ServerOptions

class Supervisor:
    options: ServerOptions
    def get_state(self) -> int: ...
