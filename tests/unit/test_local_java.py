import os
import subprocess
import sys
from pathlib import Path

import pytest

from cesrec_core.local_java import java_version, parse_version

SCRIPT = Path(__file__).parents[2] / "cesrec_core" / "local_java.py"


@pytest.mark.parametrize(
    ("shown", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "22-ea" 2024-03-19', 22),
        ('java version "1.8.0_402"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "17.0.9"', 17),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
        ("", None),
    ],
)
def test_parse_version(shown: str, major: int | None) -> None:
    assert parse_version(shown) == major


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n", encoding="utf-8")
    java.chmod(0o755)
    return java.parent


def run_script(**environment: str) -> subprocess.CompletedProcess[str]:
    # -P: the library's folder must not stand on sys.path, where its modules would shadow the standard library's.
    command = [sys.executable, "-P", str(SCRIPT)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


def test_java_home_goes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake_java(tmp_path / "path", "17.0.1")) + os.pathsep + os.environ["PATH"])
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert java_version() == 17
    fake_java(tmp_path / "home", "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert java_version() == 11
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    assert java_version() is None


def test_without_java_the_command_to_run_is_printed(tmp_path: Path) -> None:
    done = run_script(PATH=str(tmp_path))
    assert done.returncode == 1
    assert "Found no Java, but Spark needs Java 17 or 21. Run this once" in done.stderr
    assert "    sudo sh -c 'apt-get update && apt-get install -y openjdk-17-jre-headless'\n" in done.stderr
    assert "JAVA_HOME" not in done.stderr


def test_an_old_java_in_java_home_is_named(tmp_path: Path) -> None:
    fake_java(tmp_path / "home", "1.8.0_402")
    done = run_script(PATH=str(tmp_path), JAVA_HOME=str(tmp_path / "home"))
    assert done.returncode == 1
    assert "Found Java 8, but Spark needs Java 17 or 21" in done.stderr
    assert f"JAVA_HOME is {tmp_path / 'home'}: unset it" in done.stderr


def test_a_supported_java_is_enough(tmp_path: Path) -> None:
    done = run_script(PATH=str(fake_java(tmp_path, "21.0.2")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_java_is_installed_where_this_user_may(tmp_path: Path) -> None:
    """Root, or sudo that asks for no password: both are played, and so is apt-get, which brings a Java."""
    commands = tmp_path / "bin"
    commands.mkdir()
    java = fake_java(tmp_path / "installed", "17.0.9") / "java"
    scripts = {
        "sudo": 'shift; exec "$@"',
        "env": 'shift; exec "$@"',
        "true": "exit 0",
        "apt-cache": "echo '  Candidate: 17.0.9'",
        "apt-get": f'case "$*" in *install*) echo "$*" > {tmp_path}/asked; /bin/cp {java} {commands}/java;; esac',
    }
    for name, body in scripts.items():
        script = commands / name
        script.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        script.chmod(0o755)
    done = run_script(PATH=str(commands))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "asked").read_text(encoding="utf-8") == "install -y -qq openjdk-17-jre-headless\n"
    (commands / "apt-get").write_text("#!/bin/sh\nexit 100\n", encoding="utf-8")
    (commands / "java").unlink()
    assert "Run this once" in run_script(PATH=str(commands)).stderr
