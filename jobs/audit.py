"""spark-submit jobs/audit.py: the stage audit alone."""

import sys

from cesrec_core.stages.command_line import run_one_stage

if __name__ == "__main__":
    sys.exit(run_one_stage("audit"))
