"""spark-submit jobs/project_items.py: the stage project_items alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("project_items"))
