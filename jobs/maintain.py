"""spark-submit jobs/maintain.py: drop old runs and what only they needed, compact tables, delete files that no run needs."""

from cesrec_core.stages.command_line import configuration, end_with, finish, parser_for
from cesrec_core.stages.maintain import run_maintenance

DESCRIPTION = """\
Drop the rows and files of all but the newest maintain.keep_runs runs and the published one, and models, aligned vectors and
evaluations that are older than these and that none of them needs; compact the tables, and delete files older than
maintain.retention_hours that no version needs. What is in force stays. Run it outside the nightly window."""

if __name__ == "__main__":
    arguments = parser_for(DESCRIPTION, ["", "--set maintain.keep_runs=30"], has_date=False).parse_args()
    end_with(finish("maintain", lambda: run_maintenance(configuration(arguments))))
