"""spark-submit jobs/construct_pseudo_sequences.py: the stage construct_pseudo_sequences alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("construct_pseudo_sequences"))
