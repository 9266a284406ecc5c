"""spark-submit jobs/report.py [--run-id ID]: the page about a run, as the nightly job writes it."""

from cesrec_core.stages.command_line import configuration, end_with, finish, parser_for
from cesrec_core.stages.report import run_report

DESCRIPTION = """\
Write warehouse.path/reports/<run_id>.html, one page that needs no network: whether the night was good, what ran and why,
counts and times, quality beside earlier runs, vectors and masks, rewrites with the words that caused them, what was refused.
It is made from the tables and from the records that the run left; jobs/maintain.py drops those of old runs."""

if __name__ == "__main__":
    parser = parser_for(DESCRIPTION, ["", "--run-id a75b452b6d810805"], has_date=False)
    parser.add_argument("--run-id", metavar="ID", help="a run of the table runs (default: the one that began last)")
    arguments = parser.parse_args()
    end_with(finish("report", lambda: run_report(configuration(arguments), arguments.run_id)))
