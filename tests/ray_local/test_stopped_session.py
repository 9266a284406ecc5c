"""What is left of Ray when a job that has started one is asked to end: nothing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

JOB = """
import sys, time
from pathlib import Path
from cesrec_core.actors.session import RaySession
from cesrec_core.config import RaySection
from cesrec_core.stages.command_line import end_with, finish

def work():
    with RaySession(RaySection(object_store_mib=100)) as session:
        session.start()
        import ray
        Path(sys.argv[1], "session").write_text(ray._private.worker.global_worker.node.get_session_dir_path())
        Path(sys.argv[1], "is_up").touch()
        time.sleep(300)

end_with(finish("recommend", work))
"""


@pytest.mark.timeout(300)
def test_a_job_that_is_stopped_takes_its_ray_down(tmp_path: Path) -> None:
    command = [sys.executable, "-c", JOB, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "is_up").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output, messages = process.communicate(timeout=120)
    assert process.returncode == 143, messages
    assert "Stopped by SIGTERM" in output.splitlines()[-1]
    # Ray would print where every thread was.
    assert "SIGTERM received" not in messages
    session = (tmp_path / "session").read_text()
    # Those of other tests have sessions of their own.
    found = [file for file in Path("/proc").glob("[0-9]*/cmdline") if session in _text_of(file)]
    assert found == []


def _text_of(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
