"""spark-submit jobs/train_adapter.py: the stage train_adapter alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("train_adapter"))
