"""spark-submit jobs/build_sequences.py: the stage build_sequences alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("build_sequences"))
