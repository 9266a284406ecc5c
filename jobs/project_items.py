"""spark-submit jobs/project_items.py: the stage project_items alone."""

import sys

from cesrec_core.stages.command_line import run_one_stage

if __name__ == "__main__":
    sys.exit(run_one_stage("project_items"))
