"""spark-submit jobs/mask_outliers.py: the stage mask_outliers alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("mask_outliers"))
