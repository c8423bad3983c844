"""Everything at once, for as long as is asked for: what holds all the while, and what is left at the end.

``SOAK_SECONDS`` says how long, ``SOAK_SEED`` what is decided by chance: what happens to supervisord and when, and what
each client does next; how fast they are, the machine decides.
"""

import os
import random
import statistics
import sys
from pathlib import Path

import pytest

from tests.conftest import StartSupervisord
from tests.e2e.soak.course import MORTALS, SPARE_DESCRIPTORS, Soak
from tests.e2e.soak.plan import plan
from tests.harness import OWN_BINARIES, program

SECONDS = float(os.environ.get("SOAK_SECONDS", "30"))
SEED = int(os.environ.get("SOAK_SEED") or random.randrange(1_000_000))
ROOT = Path(__file__).resolve().parents[2]
SECTION = {
    "storage": "sqlite:cache.db",
    "http": "true",
    "publish": "publisher:*",
    # So that history is full soon, and what supervisord takes does not grow by it.
    "max_changes": "5000",
}
# An ordinary restart is due within a second, for which Supervisor's loop sleeps at most; what a process has to wait for
# a processor while all others want one is not bounded by anybody. Longer than this is none of both.
LATE_SECONDS = 5.0
# Of what supervisord takes at rest. Nothing that grows with writes, restarts or connections stays below this for long:
# in half an hour there are more than 200,000 writes, 2,000 restarts and 20,000 connections, so 50, 5,000 and 500 bytes
# of each would show. What the allocator keeps differs by up to 2 MB from one rest to the next.
GROWTH_KILOBYTES = 8 * 1024
# The database has a tenth of that, and its log begins anew again and again; one that never does grows by 1 MB a second.
LOG_BYTES = 256 * 2**20
READER_KILOBYTES = 8 * 1024
# What a start says of root and of a server without a password; and Supervisor of a call that it cannot read, and of a
# listener that is slower than the changes, which asks for what it has missed.
EXPLAINED = (
    "Supervisor is running as root",
    "running without any HTTP authentication checking",
    "is invalid: unmarshallable",
    "event buffer overflowed",
)


def lines() -> str:
    """Describe the processes and listeners."""
    mortal = f"{sys.executable} -IS {Path(__file__).with_name('soak') / 'mortal.py'}"
    module = f"{sys.executable} -m tests.e2e.soak"
    return "\n".join(
        [
            *(program(name, f"{mortal} %(here)s/lives-{name}") for name in MORTALS),
            program(
                "publisher",
                f"{module}.publisher %(here)s/lives-publisher %(here)s/rests",
                stdout_capture_maxbytes="64KB",
            ),
            program("configured", f"{module}.configured %(here)s/lives-configured %(here)s/seen"),
            _listener("copying", f"{module}.listener %(here)s/copy"),
            _listener("acting", f"{OWN_BINARIES}/supervisor-cache on-change --prefix config/ --signal HUP configured"),
        ]
    )


def _listener(name: str, command: str) -> str:
    return (
        f"\n[eventlistener:{name}]\ncommand={command}\nevents=CACHE\nbuffer_size=500\nstartsecs=0\nautorestart=true\n"
        f"stopsignal=KILL\nstderr_logfile=%(here)s/{name}.err\n"
    )


def assert_flat(soak: Soak) -> None:
    """What supervisord and the readers take does not grow; compared is within one life of supervisord."""
    assert max(one.log_bytes for one in soak.samples) < LOG_BYTES
    rests = [rest for rest in soak.rests if rest.life == soak.host.lives]
    assert len(rests) >= 2
    third = max(1, len(rests) // 3)
    before, after = rests[:third], rests[-third:]
    kilobytes = [statistics.median(rest.kilobytes for rest in part) for part in (before, after)]
    assert kilobytes[1] - kilobytes[0] < GROWTH_KILOBYTES, soak.rests
    loaded = [one for one in soak.samples if one.life == soak.host.lives and one.when > rests[0].when]
    third = len(loaded) // 3
    if third:
        parts = loaded[:third], loaded[-third:]
        medians = [statistics.median(one.kilobytes for one in part) for part in parts]
        assert medians[1] - medians[0] < GROWTH_KILOBYTES, medians
        numbers = [statistics.median(one.descriptors for one in part) for part in parts]
        # As many as there are clients come and go.
        assert numbers[1] - numbers[0] <= len(soak.workers), numbers
    for first, last in zip(soak.reading[0], soak.reading[-1], strict=True):
        assert last["complaints"] == []
        assert last["descriptors"] <= first["descriptors"] + SPARE_DESCRIPTORS
        assert last["kilobytes"] - first["kilobytes"] < READER_KILOBYTES


def unexplained(log: str) -> list[str]:
    """Answer the lines of a log that nothing that was done explains."""
    found = [line for line in log.splitlines() if " CRIT " in line or " ERRO " in line]
    return [line for line in found if not any(words in line for words in EXPLAINED)]


def test_everything_at_once(
    make_supervisord: StartSupervisord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(words: str) -> None:
        with capsys.disabled():
            print(words, flush=True)  # noqa: T201

    supervisord = make_supervisord({"cache": SECTION}, lines(), environment={"PYTHONPATH": str(ROOT)}).start()
    soak = Soak(supervisord, SEED, say)
    say(f"\nSOAK_SEED={SEED}")
    try:
        with soak.goes_on():
            soak.run(SECONDS, plan(SECONDS, SEED))
    finally:
        say(f"soak: seed {SEED}, {SECONDS:g} s: {soak.summary()}")
        for path in [*supervisord.folder.glob("*.err"), supervisord.folder / "supervisord.log"]:
            (tmp_path / path.name).write_text(path.read_text())
        (tmp_path / "done").write_text("\n".join(soak.done))
        (tmp_path / "samples").write_text("\n".join(map(str, soak.samples)))
    assert soak.records.complaints == []
    assert [worker.name for worker in soak.workers if not worker.acts] == []
    assert [restart for restart in soak.restarts if restart.seconds - restart.starved > LATE_SECONDS] == []
    assert len(soak.restarts) >= SECONDS / 10
    assert_flat(soak)
    assert unexplained(supervisord.log) == []
    assert "Traceback" not in supervisord.log
