"""What `read_settings` says that depends on who asks; the rest is shown by a real supervisord."""

import os
from pathlib import Path

import pytest

from supervisor_cache.server.settings import SettingsError, read_settings


@pytest.mark.parametrize("user", [0, 65_534])
def test_only_root_gives_a_database_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    options = {"storage": "sqlite:cache.db", "chown": "root:0"}
    if user == 0:
        assert read_settings("cache", options, [], str(tmp_path)).sqlite.owner == (0, 0)
        return
    with pytest.raises(SettingsError) as caught:
        read_settings("cache", options, [], str(tmp_path))
    assert caught.value.lines == ["[rpcinterface:cache] chown = 'root:0': only root can give files away"]
