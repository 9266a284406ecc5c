"""Command lines that end in a JSON object, also where they cannot be used: of jobs, and of training commands without Spark."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import NoReturn


class JobParser(argparse.ArgumentParser):
    """Keeps the promise of a JSON object on the last line for a command line that cannot be used, too."""

    def error(self, message: str) -> NoReturn:
        reclaim_standard_error()
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        print(json.dumps({"job": Path(self.prog).stem, "status": "failed", "error": message}), flush=True)
        self.exit(2)


def reclaim_standard_error() -> None:
    """Undo spark-submit's merging of a job's standard error into its standard output.

    Its launcher gives both to one pipe, so that logs would stand among results and no progress bar would see a terminal.
    The launcher's own standard error is what the caller meant. Where it cannot be opened, all stays as it was.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ or not os.path.sameopenfile(1, 2):
        return
    try:
        # Appending, since the launcher keeps an offset of its own into the same file.
        file = os.open(f"/proc/{os.getppid()}/fd/2", os.O_WRONLY | os.O_APPEND)
    except OSError:
        return
    os.dup2(file, 2)
    os.close(file)
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
