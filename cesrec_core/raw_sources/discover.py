"""Find the sources in a dataset folder."""

import fnmatch
from pathlib import Path

from cesrec_core.errors import InputDataError
from cesrec_core.raw_sources.formats import ALWAYS_THERE, SUFFIXES

_ENDINGS = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz")

# Names to look for, the project's own first: the first group that matches anything decides.
PATTERNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "interactions": (
        ("interactions", *("interactions" + ending for ending in _ENDINGS)),
        ("*.inter", "ratings.dat", "ratings.csv", "reviews*.json.gz", "reviews*.json"),
    ),
    "items": (
        ("items", *("items" + ending for ending in _ENDINGS)),
        ("*.item", "movies.dat", "movies.csv", "meta*.json.gz", "meta*.json"),
    ),
    **{kind: ((kind, *(kind + ending for ending in _ENDINGS)),) for kind in ("feedback", "item_rules", "user_segments")},
}


def find_sources(folder: Path) -> dict[str, str]:
    """The location of each kind of source in a dataset folder; those that are not required only where there are some.

    Raises:
        InputDataError: there is no such folder, a required source is missing, or one could be either of two files.
    """
    if not folder.is_dir():
        raise InputDataError(f"There is no dataset folder {folder}. Correct dataset.path.")
    names = sorted(path.name for path in folder.iterdir())
    sources = {}
    for kind, groups in PATTERNS.items():
        matches = next((found for group in groups if (found := _matching(folder, names, group))), [])
        if len(matches) > 1:
            raise InputDataError(
                f"{folder} holds more than one source of {kind}: {', '.join(matches)}. Keep one, or name it in dataset.{kind}."
            )
        if matches:
            sources[kind] = str(folder / matches[0])
        elif kind in ALWAYS_THERE:
            looked_for = ", ".join(pattern for group in groups for pattern in group)
            raise InputDataError(f"{folder} holds no {kind}. Looked for: {looked_for}. Found: {', '.join(names) or 'nothing'}.")
    return sources


def _matching(folder: Path, names: list[str], patterns: tuple[str, ...]) -> list[str]:
    """Names without a known ending count only as folders (a Delta table, or Parquet part files)."""
    matches = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    return [name for name in matches if any(name.endswith(suffix) for suffix in SUFFIXES) or (folder / name).is_dir()]
