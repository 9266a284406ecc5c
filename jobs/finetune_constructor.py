"""spark-submit jobs/finetune_constructor.py: the stage finetune_constructor alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("finetune_constructor"))
