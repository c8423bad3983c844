from collections.abc import Mapping
from typing import Any

def getRPCInterface(env: Mapping[str, str]) -> Any: ...
