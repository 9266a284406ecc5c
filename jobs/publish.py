"""spark-submit jobs/publish.py: the stage publish alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("publish"))
