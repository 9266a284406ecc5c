"""Makes sure that a Java which Spark runs on is there: `python cesrec_core/local_java.py`, before anything is installed.

Uses the standard library alone. Exit code 0 where Java is ready, 1 where a person has to run the printed command.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SUPPORTED = (17, 21)
PACKAGES = ("openjdk-17-jre-headless", "openjdk-21-jre-headless")


def main() -> int:
    found = java_version()
    if found in SUPPORTED:
        return 0
    what = "no Java" if found is None else f"Java {found}"
    package = next((name for name in PACKAGES if _is_available(name)), PACKAGES[0])
    install = f"apt-get update && apt-get install -y {package}"
    root = as_root()
    if shutil.which("apt-get") and root is not None:
        print(f"Found {what}; Spark needs 17 or 21. Installing {package} ...", flush=True)
        subprocess.run([*root, "apt-get", "update", "-qq"], check=False)
        package = next((name for name in PACKAGES if _is_available(name)), PACKAGES[0])
        quietly = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", package]
        done = subprocess.run(quietly, check=False)
        if done.returncode == 0 and java_version() in SUPPORTED:
            return 0
    print(f"Found {what}, but Spark needs Java 17 or 21. Run this once, then start again:\n", file=sys.stderr)
    print(f"    sudo sh -c '{install}'\n", file=sys.stderr)
    if "JAVA_HOME" in os.environ:
        print(f"JAVA_HOME is {os.environ['JAVA_HOME']}: unset it, or point it to such a Java.", file=sys.stderr)
    return 1


def java_version() -> int | None:
    """Major version of the Java that Spark would start."""
    return parse_version(java_banner())


def java_banner() -> str:
    """What that Java says of itself; nothing where there is none."""
    java = java_program()
    return subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr if java else ""


def java_program() -> str | None:
    """The one that Spark would start: JAVA_HOME's where that is set, else the one on the path."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    return java if java and os.access(java, os.X_OK) else None


def parse_version(shown: str) -> int | None:
    """Major version from what `java -version` prints: `17.0.15` is 17, `1.8.0_402` is 8."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', shown)
    if match is None:
        return None
    major = int(match.group(1))
    return int(match.group(2) or 0) if major == 1 else major


def as_root() -> list[str] | None:
    """What to write before a command that only root may run; None where this user may not, or not without a password."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    may = shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    return sudo if may else None


def _is_available(package: str) -> bool:
    if not shutil.which("apt-cache"):
        return False
    shown = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True, check=False).stdout
    return "Candidate:" in shown and "Candidate: (none)" not in shown


if __name__ == "__main__":
    sys.exit(main())
