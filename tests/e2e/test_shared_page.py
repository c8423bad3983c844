"""etcd's own commands, as docs/shared.md has them."""

import json
import os
import pty
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.cluster import Cluster
from tests.conftest import StartSupervisord, missing
from tests.examples import ROOT, blocks
from tests.harness import START_SECONDS

ROOT_USER = "root:its password"
PASSWORD = "password of the page"


def lines(start: str) -> list[str]:
    """Answer the lines of the block of the page that starts so, without what is said of them."""
    (found,) = [block.code for block in blocks(ROOT / "docs/shared.md") if block.code.startswith(start)]
    return [line.partition("#")[0].strip() for line in found.splitlines()]


class Console:
    """Types commands of etcdctl that ask one member."""

    def __init__(self, cluster: Cluster) -> None:
        if shutil.which("etcdctl") is None:
            missing("etcdctl")
        self.environment = {**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": cluster.endpoints[0]}

    def typed(self, line: str, answer: str = "", user: str = "") -> tuple[int, str]:
        """Type ``line`` at a terminal, and ``answer`` at each question; answer status and output."""
        controller, terminal = pty.openpty()
        try:
            os.write(controller, f"{answer}\n{answer}\n".encode())
            done = subprocess.run(
                shlex.split(line) + (["--user", user] if user else []),
                stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=self.environment, text=True, timeout=START_SECONDS, check=False,
            )  # fmt: skip
        finally:
            os.close(controller)
            os.close(terminal)
        return done.returncode, done.stdout


def test_etcd_forgets_by_itself_as_the_page_has_it(tmp_path: Path) -> None:
    (line,) = lines("etcd --auto-compaction")
    program, *options, rest = shlex.split(line)
    assert (program, rest) == ("etcd", "...")
    with Cluster(tmp_path, members=1, options=options) as cluster:
        told = [line for line in cluster.members[0].log_file.read_text().splitlines() if "auto-compaction-mode" in line]
        started = json.loads(told[0])
    assert (started["auto-compaction-mode"], started["auto-compaction-retention"]) == ("periodic", "1h0m0s")


def test_the_user_of_the_page_has_the_prefix_and_nothing_else(
    make_supervisord: StartSupervisord, tmp_path: Path
) -> None:
    with Cluster(tmp_path / "etcd", members=1) as cluster:
        console = Console(cluster)
        for line in (f"etcdctl user add '{ROOT_USER}'", "etcdctl role add root", "etcdctl user grant-role root root"):
            assert console.typed(line)[0] == 0
        for line in lines("etcdctl role add"):
            status, output = console.typed(line, PASSWORD)
            assert status == 0, output
        supervisord = make_supervisord()
        password = supervisord.folder / "password"
        password.write_text(f"{PASSWORD}\n")
        password.chmod(0o600)
        supervisord.sections["cache"] = {
            "storage": f"etcd://{cluster.endpoints[0]}/supervisor/prod",
            "etcd_user": "supervisor",
            "etcd_password_file": str(password),
        }
        supervisord.start()
        supervisord.wait_for_storage()
        supervisord.unix().cache.store("release", "2026.11.3", {"note": "deploy 812"})
        # What is in it stands on the page.
        command, key, record = lines("$ etcdctl get")
        for user in (ROOT_USER, f"supervisor:{PASSWORD}"):
            status, output = console.typed(command.removeprefix("$ "), user=user)
            assert (status, output.splitlines()[0]) == (0, key)
            found, said = json.loads(output.splitlines()[1]), json.loads(record)
            assert {**found, "modified": said["modified"]} == said
        status, output = console.typed("etcdctl put /elsewhere x", user=f"supervisor:{PASSWORD}")
        assert status != 0
        assert "permission denied" in output
        supervisord.stop()
