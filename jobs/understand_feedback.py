"""spark-submit jobs/understand_feedback.py: the stage understand_feedback alone.

python jobs/understand_feedback.py --items FILE.parquet --in FILE.jsonl --out FILE.jsonl: a file of utterances, without Spark.
"""

from cesrec_core.stages.command_line import configuration, end_with, finish, parser_for_stage, run_alone
from cesrec_core.stages.understand_file import add_arguments, run_understand_file, understands_file

NAME = "understand_feedback"
OF_A_FILE = "With --items, --in and --out: read the utterances of a file of JSON lines instead, without Spark."
EXAMPLES = ["python jobs/understand_feedback.py --items FOLDER/items.parquet --in said.jsonl --out understood.jsonl"]

if __name__ == "__main__":
    parser = parser_for_stage(NAME, OF_A_FILE, EXAMPLES)
    add_arguments(parser)
    options = parser.parse_args()
    is_file = understands_file(parser, options)
    end_with(
        finish(NAME, lambda: run_understand_file(configuration(options), options)) if is_file else run_alone(NAME, options)
    )
