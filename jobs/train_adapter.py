"""spark-submit jobs/train_adapter.py: the stage train_adapter alone."""

import sys

from cesrec_core.stages.command_line import run_one_stage

if __name__ == "__main__":
    sys.exit(run_one_stage("train_adapter"))
