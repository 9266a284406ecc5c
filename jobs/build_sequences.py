"""spark-submit jobs/build_sequences.py: the stage build_sequences alone."""

import sys

from cesrec_core.stages.command_line import run_one_stage

if __name__ == "__main__":
    sys.exit(run_one_stage("build_sequences"))
