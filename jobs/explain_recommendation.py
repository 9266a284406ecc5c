"""spark-submit jobs/explain_recommendation.py --user-id ID --item-id ID: why an item stands where it does for somebody."""

from cesrec_core.stages.command_line import configuration, end_with, finish, parser_for
from cesrec_core.stages.explain_recommendation import run_explanation

DESCRIPTION = """\
Say in one sentence why an item stands where it does for a user in the published run, whether or not it is on their list: what
their history makes likely, which words matched which attributes, what the rewrite changed, and what keeps it away (they have
had it, they turned it down, a rule). No table is changed."""

if __name__ == "__main__":
    parser = parser_for(DESCRIPTION, ["--user-id 42 --item-id 127"], has_date=False)
    parser.add_argument("--user-id", metavar="ID", required=True, help="a user of the table user_sequences")
    parser.add_argument("--item-id", metavar="ID", required=True, help="an item of the table items")
    arguments = parser.parse_args()
    ids = (arguments.user_id, arguments.item_id)
    end_with(finish("explain_recommendation", lambda: run_explanation(configuration(arguments), *ids)))
