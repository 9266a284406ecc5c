"""spark-submit jobs/explain_mask.py --user-id ID: why items of somebody's history are masked, or are not."""

from cesrec_core.stages.command_line import configuration, end_with, finish, parser_for
from cesrec_core.stages.explain_mask import run_explanation

DESCRIPTION = """\
Print the newest items of a user's history as mask_outliers would read them tonight: how similar each is to the user's core
taste, its rank (1 = farthest), by how many robust standard deviations it lies below the user's median, and the items of the
history that are most like it. No table is changed."""

if __name__ == "__main__":
    parser = parser_for(DESCRIPTION, ["--user-id 42", "--user-id 42 --set mask_outliers.is_adaptive=true"], has_date=False)
    parser.add_argument("--user-id", metavar="ID", required=True, help="a user of the table user_sequences")
    arguments = parser.parse_args()
    end_with(finish("explain_mask", lambda: run_explanation(configuration(arguments), arguments.user_id)))
