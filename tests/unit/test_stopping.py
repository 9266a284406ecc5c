"""What SIGTERM, by which schedulers stop a job, does to a job and to the training that it waits for."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark import SparkContext

from cesrec_core.errors import Stopped
from cesrec_core.locks import take_lock
from cesrec_core.stages.stopping import stopping_in_order

# A training takes a second to end, and its job is asked again meanwhile.
JOB = """
import datetime as dt, sys
from pathlib import Path
from cesrec_core.config import Config
from cesrec_core.stages import training_process
from cesrec_core.stages.command_line import end_with, finish
from cesrec_core.stages.context import RunContext, writing_to

folder = Path(sys.argv[1])
training_process.shipped_folder = lambda name: folder

class Folders:
    path = folder / "warehouse"

def work():
    context = RunContext(Config(), None, Folders(), None, "run", dt.date(2026, 3, 2), {}, {})
    with writing_to(Folders.path):
        return training_process.run_training(context, "train.py", [], 10)

end_with(finish("train_recommender", work))
"""
TRAINING = """
import os, signal, sys, time
from pathlib import Path
folder = Path(__file__).parent
def end(*_):
    (folder / "asked").touch()
    time.sleep(1)
    (folder / "ended").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(folder / "pid.part").write_text(str(os.getpid()))
(folder / "pid.part").rename(folder / "pid")
time.sleep(120)
"""


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None and time.monotonic() < deadline, f"no {file.name}"
        time.sleep(0.05)


def test_a_job_that_is_stopped_ends_its_training_and_lets_go_of_its_lock(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINING, encoding="utf-8")
    command = [sys.executable, "-c", JOB, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(tmp_path / "pid", process)
        process.send_signal(signal.SIGTERM)
        wait_for(tmp_path / "asked", process)
        process.send_signal(signal.SIGTERM)
        output, messages = process.communicate(timeout=60)
    assert process.returncode == 143, messages
    assert (tmp_path / "ended").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    summary = json.loads(output.splitlines()[-1])
    assert (summary["job"], summary["status"]) == ("train_recommender", "failed")
    assert summary["error"].startswith("Stopped by SIGTERM. Start again")
    assert "Stopped by SIGTERM" in messages and "Traceback" not in messages
    take_lock(tmp_path / "warehouse" / "lock", "is being tried").close()


# As Airflow's hook kills spark-submit: it alone, with a signal that it cannot pass on.
LAUNCHER = """
import subprocess, sys
with subprocess.Popen([sys.executable, *sys.argv[1:]]) as job:
    print(job.pid, flush=True)
"""


# What workers do meanwhile is nothing that waits for an answer of Spark's.
WORK = """
import signal, sys, time
from pathlib import Path
from cesrec_core.stages.command_line import end_with, finish

# Whoever began these tests in the background of a shell has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def work():
    (Path(sys.argv[1]) / "pid").touch()
    try:
        time.sleep(120)
    finally:
        time.sleep(5)
        (Path(sys.argv[1]) / "ended").touch()

end_with(finish("embed_items", work))
"""


@pytest.mark.parametrize("job", [JOB, WORK], ids=["training", "work of its own"])
def test_a_job_ends_with_its_launcher(tmp_path: Path, job: str) -> None:
    (tmp_path / "train.py").write_text(TRAINING, encoding="utf-8")
    command = [sys.executable, "-c", LAUNCHER, "-c", job, str(tmp_path)]
    environment = {**os.environ, "PYSPARK_GATEWAY_PORT": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as process:
        wait_for(tmp_path / "pid", process)
        process.kill()
        # The job holds it, too.
        output, _ = process.communicate(timeout=60)
    assert (tmp_path / "ended").exists()
    assert json.loads(output.splitlines()[-1])["error"].startswith("spark-submit has ended, and this job with it. Start again")


def test_ctrl_c_which_ends_the_launcher_too_is_one_stop(tmp_path: Path) -> None:
    """The second one would interrupt what the first one lets go."""
    command = [sys.executable, "-c", LAUNCHER, "-c", WORK, str(tmp_path)]
    environment = {**os.environ, "PYSPARK_GATEWAY_PORT": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as process:
        wait_for(tmp_path / "pid", process)
        assert process.stdout is not None
        os.kill(int(process.stdout.readline()), signal.SIGINT)
        process.kill()
        output, _ = process.communicate(timeout=60)
    assert (tmp_path / "ended").exists()
    assert json.loads(output.splitlines()[-1])["error"].startswith("Interrupted. Start again")


def test_what_handled_it_before_does_so_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as caught, stopping_in_order():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_jobs_of_spark_that_work_for_nobody_any_more_are_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = threading.Event()
    monkeypatch.setattr(SparkContext, "_active_spark_context", SimpleNamespace(cancelAllJobs=cancelled.set))
    with pytest.raises(Stopped), stopping_in_order():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert cancelled.wait(10)


def test_a_second_one_does_not_interrupt_what_the_first_began() -> None:
    done: list[str] = []
    with pytest.raises(Stopped), stopping_in_order():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("let go")
    assert done == ["let go"]


def test_one_that_comes_where_python_ignores_it_comes_again() -> None:
    class DoneAway:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    with pytest.raises(Stopped), stopping_in_order():
        DoneAway()
        time.sleep(20)


def test_what_fails_while_it_lets_go_is_a_stop_all_the_same() -> None:
    with pytest.raises(Stopped) as caught, stopping_in_order():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        finally:
            raise ConnectionError("Spark has gone")
    assert caught.value.code == 143


def test_a_thread_leaves_it_as_it_is() -> None:
    found: list[object] = []

    def work() -> None:
        with stopping_in_order():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_sigterm_ends_a_training_where_python_loses_what_it_raises() -> None:
    """While an object is done away with nothing that is raised gets out: the process ends as if nobody had listened."""
    program = """
import os, signal, time
from cesrec_core.training_command import _stopping_in_order
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
with _stopping_in_order():
    Dying()
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=50, check=False, stderr=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGTERM
