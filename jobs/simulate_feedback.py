"""spark-submit jobs/simulate_feedback.py: the stage simulate_feedback alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("simulate_feedback"))
