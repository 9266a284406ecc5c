"""spark-submit jobs/recommend.py: the stage recommend alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("recommend"))
