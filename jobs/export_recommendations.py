"""spark-submit jobs/export_recommendations.py [--since RUN_ID] [--format parquet|jsonl] [--out FOLDER]: lists to load."""

from cesrec_core.job_parser import local_path
from cesrec_core.stages.command_line import configuration, end_with, finish, parser_for
from cesrec_core.stages.export_recommendations import FORMATS, run_export

DESCRIPTION = """\
Bring the table served_recommendations to what consumers read now, by one commit whose change data feed a serving store can
follow, and write files for a store to load: recommendations.<format>, one row per user with item ids and scores, best first;
changes.<format>, the users whose list is another than in the run that the folder held (in a new folder: the one published
before; or --since): added, changed, rescored (the same items, other scores or round) or removed; and manifest.json. The
folder is replaced as a whole, or not at all."""
EXAMPLES = [
    "",
    "--format jsonl --out /mnt/serving/recommendations",
    "--since a75b452b6d810805 --format parquet --format jsonl",
]

if __name__ == "__main__":
    parser = parser_for(DESCRIPTION, EXAMPLES, has_date=False)
    parser.add_argument("--since", metavar="RUN_ID", help="the run that the store holds (default: as said above)")
    parser.add_argument("--format", action="append", choices=FORMATS, help="may be repeated (default: parquet)")
    where = "a folder that all nodes see (default: exports/recommendations in the warehouse)"
    parser.add_argument("--out", metavar="FOLDER", type=local_path, help=where)
    given = parser.parse_args()
    formats = given.format or ["parquet"]
    end_with(finish("export_recommendations", lambda: run_export(configuration(given), given.since, formats, given.out)))
