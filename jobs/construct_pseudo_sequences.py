"""spark-submit jobs/construct_pseudo_sequences.py: the stage construct_pseudo_sequences alone."""

import sys

from cesrec_core.stages.command_line import run_one_stage

if __name__ == "__main__":
    sys.exit(run_one_stage("construct_pseudo_sequences"))
