from supervisor.options import ServerOptions
from supervisor.process import Group

class Supervisor:
    options: ServerOptions
    process_groups: dict[str, Group]
    def get_state(self) -> int: ...
