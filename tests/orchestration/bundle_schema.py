"""What `make bundle-schema` runs: databricks.yml and what it includes against the JSON schema that Databricks publishes.

The schema is what `databricks bundle schema` prints, which needs no workspace and no network; or a file from before.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

ROOT = Path(__file__).parents[2]
CLI = "databricks"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bundle-schema")
    parser.add_argument("--schema", type=Path, help="JSON schema of bundles (default: what the Databricks CLI prints)")
    file = parser.parse_args(arguments).schema
    if file is None and shutil.which(CLI) is None:
        print("The Databricks CLI is not installed. Install it, or give SCHEMA=FILE, what it prints as `bundle schema`.")
        return 2
    schema = json.loads(file.read_text(encoding="utf-8")) if file is not None else schema_of_cli()
    found = list(faults(whole_bundle(ROOT), schema))
    print("\n".join(found) or "databricks.yml and what it includes are as the schema says")
    return 1 if found else 0


def schema_of_cli() -> dict[str, Any]:
    printed = subprocess.run([CLI, "bundle", "schema"], check=True, stdout=subprocess.PIPE, text=True).stdout
    schema: dict[str, Any] = json.loads(printed)
    return schema


def whole_bundle(root: Path) -> dict[str, Any]:
    """databricks.yml with the included files in it, each of which holds resources alone."""
    bundle: dict[str, Any] = yaml.safe_load((root / "databricks.yml").read_text(encoding="utf-8"))
    files = [file for pattern in bundle["include"] for file in sorted(root.glob(pattern))]
    assert files, bundle["include"]
    for file in files:
        included = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert set(included) == {"resources"}, file
        for kind, resources in included["resources"].items():
            bundle.setdefault("resources", {}).setdefault(kind, {}).update(resources)
    return bundle


def faults(bundle: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """Where the bundle is not as the schema says: the place and, of alternatives, what is wrong with the nearest one."""
    for error in Draft202012Validator(schema).iter_errors(bundle):
        nearest = best_match([error])
        yield f"{'.'.join(map(str, nearest.absolute_path)) or 'databricks.yml'}: {nearest.message}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
