"""spark-submit jobs/evaluate.py: what the feedback is worth, on items that no model has seen."""

import sys

from cesrec_core.stages.command_line import configuration, finish, parser_for
from cesrec_core.stages.evaluate import run_evaluation

DESCRIPTION = """\
Measure the models that the nightly job trained: the base recommender, the base re-ranked by the same feedback, histories
without their outliers, and CESRec. Weights are chosen on validation items, figures come from test items, each with a 95 %
bootstrap interval over users. Needs models trained with dataset.split leave_one_out, as the demo's are."""

if __name__ == "__main__":
    arguments = parser_for(DESCRIPTION).parse_args()
    sys.exit(finish("evaluate", lambda: run_evaluation(configuration(arguments))))
