"""spark-submit jobs/ingest.py: the stage ingest alone."""

from cesrec_core.stages.command_line import end_with, run_one_stage

if __name__ == "__main__":
    end_with(run_one_stage("ingest"))
