"""spark-submit jobs/evaluate.py: what the feedback is worth; or, without Spark, how good one recommender is."""

from functools import partial

from cesrec_core.stages.command_line import configuration, end_with, finish, parser_for
from cesrec_core.stages.evaluate import run_evaluation
from cesrec_core.stages.evaluate_recommender import add_arguments, evaluates_recommender, run_recommender_evaluation

DESCRIPTION = """\
Measure the models that the nightly job trained: the base recommender, the base re-ranked by the same feedback, histories
without their outliers, and CESRec. Feedback is simulated: plain templates name attributes of the held-out item, whatever
simulate_feedback.knows, .moods and .engine say. Weights are chosen on validation items, figures come from test items, with
95 % bootstrap intervals over users. Needs models trained with dataset.split leave_one_out, as the demo's are.

With --dataset and --artifact: measure one recommender that training/train_recommender.py wrote, on the items its split
held back, in whole and by history length, popularity and taste; with --against, test it against another on the same users."""
EXAMPLES = [
    "",
    "--set evaluate.num_bootstrap_samples=500  # wider intervals, sooner",
    "python jobs/evaluate.py --dataset FOLDER --artifact FOLDER/sasrec --against FOLDER/markov --moment validation",
]

if __name__ == "__main__":
    parser = parser_for(DESCRIPTION, EXAMPLES)
    add_arguments(parser)
    options = parser.parse_args()
    one = evaluates_recommender(parser, options)
    run = partial(run_recommender_evaluation, options=options) if one else run_evaluation
    end_with(finish("evaluate", lambda: run(configuration(options))))
