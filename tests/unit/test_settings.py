"""What `read_settings` says that depends on who asks; the rest is shown by a real supervisord."""

import os
import pwd
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


@pytest.mark.parametrize("word", ["true", "yes", "on", "1", "TRUE", "On"])
def test_what_supervisor_takes_for_true_is_true(word: str) -> None:
    assert read_settings("cache", {"http": word, "log_changes": word}, [], "/").http is True


@pytest.mark.parametrize("word", ["false", "no", "off", "0", "FALSE", "Off"])
def test_what_supervisor_takes_for_false_is_false(word: str) -> None:
    settings = read_settings("cache", {"http": word, "log_changes": word}, [], "/")
    assert (settings.http, settings.log_changes) == (False, False)


def test_a_user_without_a_group_gives_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    user = pwd.getpwnam("nobody")
    for name in ("nobody", str(user.pw_uid)):
        options = {"storage": "sqlite:cache.db", "chown": name}
        assert read_settings("cache", options, [], str(tmp_path)).sqlite.owner == (user.pw_uid, user.pw_gid)
