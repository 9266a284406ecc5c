"""spark-submit jobs/roll_back.py --run-id ID: let consumers read an older run again."""

from cesrec_core.stages.command_line import configuration, end_with, finish, parser_for
from cesrec_core.stages.maintain import roll_back

DESCRIPTION = """\
Publish an older run again, by one commit to the table runs. Its rows must still be there (see maintain.keep_runs)."""

if __name__ == "__main__":
    parser = parser_for(DESCRIPTION, ["--run-id a75b452b6d810805"], has_date=False)
    parser.add_argument(
        "--run-id", metavar="ID", required=True, help="a run of the table runs whose status is published or finished"
    )
    arguments = parser.parse_args()
    end_with(finish("roll_back", lambda: roll_back(configuration(arguments), arguments.run_id)))
