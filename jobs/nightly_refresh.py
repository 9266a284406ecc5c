"""spark-submit jobs/nightly_refresh.py: every stage of the nightly job, each where there is reason to run it."""

from cesrec_core.stages.command_line import end_with, run_stages
from cesrec_core.stages.nightly import NIGHTLY

DESCRIPTION = """\
Read people's histories and what they said, rewrite the few items that contradict their words, recommend from the
rewritten histories, and publish pseudo-sequences and recommendations to Delta tables. Trains what is missing or too old.
Running it again with nothing changed does nothing; starting it again after a crash resumes where it stopped."""
EXAMPLES = [
    " # the demo",
    "--run-date 2026-03-02  # what a scheduler says, in every try",
    "--dry-run  # what would run, and why",
    "--set dataset.path=FOLDER --set dataset.split=all --set simulate_feedback.num_users=0",
    "spark-submit --master spark://HOST:7077 --py-files WHEEL jobs/nightly_refresh.py --config FILE",
]

if __name__ == "__main__":
    end_with(run_stages("nightly_refresh", DESCRIPTION, NIGHTLY, EXAMPLES))
