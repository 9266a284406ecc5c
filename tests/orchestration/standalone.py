"""What `make standalone` runs: a Spark master and two workers on this machine, and the nightly job on a tiny world there, from
the wheel alone.

The wheel carries a version of its own, which has to come back in the table `runs`: so no other copy of the library was run.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

from tiny_world import RUN_DATE, write_tiny_world  # noqa: E402

VERSION = "0.0.0+standalone"
SOURCES = ("cesrec_core", "training", "conf", "setup.py", "pyproject.toml", "README.md", "LICENSE")
SECONDS_TO_START = 60


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel = build_wheel(folder / "tree")
        config = write_tiny_world(folder / "world")
        with cluster(folder) as (master, page):
            summary = submit(folder, master, wheel, config)
            applications = ask(page)["completedapps"]
        assert summary["status"] == "published", summary
        assert [(app["name"], app["cores"], app["state"]) for app in applications] == [
            ("cesrec nightly_refresh", 2, "FINISHED")
        ]
        assert code_version(config) == VERSION
    print(f"Published by {VERSION} on a master and two workers in {summary['seconds']['total']:.0f} s")
    return 0


def build_wheel(tree: Path) -> Path:
    tree.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tree / name)
    version_file = tree / "cesrec_core" / "__init__.py"
    text = re.sub(r'__version__ = ".+"', f'__version__ = "{VERSION}"', version_file.read_text(encoding="utf-8"))
    version_file.write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tree / "dist",
    ]
    subprocess.run([*command, tree], check=True)
    return next((tree / "dist").glob("*.whl"))


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, str]]:
    """A master and two workers of one core each; yields the master's address and its page of figures."""
    port, page_port = free_port(), free_port()
    master, page = f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{page_port}/json/"
    host = ["--host", "127.0.0.1"]
    commands = [["org.apache.spark.deploy.master.Master", *host, "--port", str(port), "--webui-port", str(page_port)]]
    for number in (1, 2):
        place = ["--work-dir", str(folder / f"worker-{number}"), "--cores", "1", "--memory", "1g", "--webui-port", "0"]
        commands.append(["org.apache.spark.deploy.worker.Worker", *host, *place, master])
    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    environment = {**os.environ, "SPARK_HOME": str(Path(pyspark.__file__).parent)}
    processes = [subprocess.Popen([spark_class, *command], env=environment) for command in commands]
    try:
        wait_for_workers(page, 2)
        yield master, page
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def wait_for_workers(page: str, wanted: int) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        try:
            if ask(page)["aliveworkers"] == wanted:
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"The workers were not there after {SECONDS_TO_START} s")


def submit(folder: Path, master: str, wheel: Path, config: Path) -> dict:
    """From a folder with nothing in it, and without this checkout on the path."""
    empty = folder / "empty"
    empty.mkdir()
    command = ["spark-submit", "--master", master, "--py-files", wheel, "--conf", "spark.executor.memory=1g"]
    command += ["--conf", "spark.driver.host=127.0.0.1", ROOT / "jobs" / "nightly_refresh.py"]
    command += ["--config", config, "--run-date", RUN_DATE]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=empty, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout.splitlines()[-1])


def code_version(config: Path) -> str:
    """What the published run says it was made by."""
    from cesrec_core.config import load_config
    from cesrec_core.delta_io.session import spark_session
    from cesrec_core.delta_io.warehouse import Warehouse
    from cesrec_core.schemas import RUNS

    loaded = load_config(config)
    return str(Warehouse(spark_session(loaded.spark, "look"), loaded.warehouse).read(RUNS).first()["code_version"])


def ask(page: str) -> dict:
    with urllib.request.urlopen(page, timeout=5) as answer:
        return json.load(answer)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
