"""spark-submit jobs/embed_items.py: the stage embed_items alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("embed_items"))
