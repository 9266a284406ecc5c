"""spark-submit jobs/finetune_constructor.py: the stage finetune_constructor alone."""

import sys

from cesrec_core.stages.command_line import run_one_stage

if __name__ == "__main__":
    sys.exit(run_one_stage("finetune_constructor"))
