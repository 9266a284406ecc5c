"""spark-submit jobs/understand_feedback.py: the stage understand_feedback alone."""

import sys

from cesrec_core.stages.command_line import run_one_stage

if __name__ == "__main__":
    sys.exit(run_one_stage("understand_feedback"))
