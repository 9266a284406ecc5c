"""spark-submit jobs/embed_items.py: the stage embed_items alone."""

import sys

from cesrec_core.stages.command_line import run_one_stage

if __name__ == "__main__":
    sys.exit(run_one_stage("embed_items"))
