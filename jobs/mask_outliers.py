"""spark-submit jobs/mask_outliers.py: the stage mask_outliers alone."""

import sys

from cesrec_core.stages.command_line import run_one_stage

if __name__ == "__main__":
    sys.exit(run_one_stage("mask_outliers"))
