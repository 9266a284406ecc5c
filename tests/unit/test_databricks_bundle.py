"""databricks.yml and resources/: checked against Databricks' own model of a job, since no workspace is at hand."""

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundle_schema import CLI, faults, schema_of_cli, whole_bundle
from databricks.bundles.jobs import Job
from databricks.bundles.schemas import Schema
from databricks.bundles.volumes import Volume

from cesrec_core.config import Config, load_config
from cesrec_core.stages.nightly import NIGHTLY

ROOT = Path(__file__).parents[2]
NAMES = [stage.name for stage in NIGHTLY]
# What mode development makes of the name of a schema; it leaves those of volumes alone.
SCHEMA_AS_MADE = "dev_jane_cesrec_dev"


def read(path: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bundle() -> dict[str, Any]:
    return read("databricks.yml")


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return read("resources/cesrec_nightly.job.yml")["resources"]


@pytest.fixture(scope="module")
def job(resources: dict[str, Any]) -> dict[str, Any]:
    return resources["jobs"]["cesrec_nightly"]


def filled_in(text: str, bundle: dict[str, Any]) -> str:
    """With the variables' defaults, and the job's parameters as a run has them."""
    values = {f"var.{name}": str(variable["default"]) for name, variable in bundle["variables"].items()}
    values |= {"job.parameters.config": "conf/databricks.yaml", "job.parameters.run_date": "2026-03-02"}
    values |= {"resources.schemas.cesrec.name": SCHEMA_AS_MADE, "resources.volumes.warehouse.name": "warehouse"}
    return re.sub(r"\$\{([\w.]+)\}|\{\{([\w.]+)\}\}", lambda found: values[found.group(1) or found.group(2)], text)


def test_jobs_schemas_and_volumes_are_what_databricks_knows(resources: dict[str, Any]) -> None:
    """An unknown key, a missing one, or a value of another kind is an error there."""
    for model, kind in ((Job, "jobs"), (Schema, "schemas"), (Volume, "volumes")):
        for value in resources[kind].values():
            # What the model does not carry back out, it did not understand.
            assert set(model.from_dict(value).as_dict()) == set(value)
    with pytest.raises(ValueError, match="Unexpected field"):
        Job.from_dict({**resources["jobs"]["cesrec_nightly"], "unheard_of_parameter": 1})


@pytest.mark.skipif(shutil.which(CLI) is None, reason="the Databricks CLI, which prints the schema, is not installed")
def test_the_whole_is_as_the_schema_of_the_cli_says() -> None:
    assert list(faults(whole_bundle(ROOT), schema_of_cli())) == []


# As the published one is built: closed objects, and a reference to a variable in the stead of any of them.
LIKE_THE_PUBLISHED = {
    "$defs": {
        "target": {
            "oneOf": [
                {"type": "object", "properties": {"mode": {"type": "string"}}, "additionalProperties": False},
                {"type": "string", "pattern": r"^\$\{var\."},
            ]
        }
    },
    "properties": {
        "bundle": {"required": ["name"]},
        "targets": {"type": "object", "additionalProperties": {"$ref": "#/$defs/target"}},
        "resources": {"properties": {"jobs": {"type": "object"}}, "additionalProperties": False},
    },
}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda bundle: bundle["targets"].update(dev={"modus": "x"}), r"^targets\.dev: .*'modus' was unexpected"),
        (lambda bundle: bundle["bundle"].clear(), r"^bundle: 'name' is a required property"),
        (lambda bundle: bundle["resources"].update(job={}), r"^resources: .*'job' was unexpected"),
    ],
)
def test_what_the_schema_does_not_know_is_told_with_its_place(spoil: Callable[[dict[str, Any]], None], told: str) -> None:
    bundle = {"bundle": {"name": "a"}, "targets": {"dev": {"mode": "x"}, "prod": "${var.prod}"}, "resources": {"jobs": {}}}
    assert list(faults(bundle, LIKE_THE_PUBLISHED)) == []
    spoiled = copy.deepcopy(bundle)
    spoil(spoiled)
    (fault,) = faults(spoiled, LIKE_THE_PUBLISHED)
    assert re.search(told, fault)


def test_the_schema_is_asked_of_what_is_included_too(resources: dict[str, Any]) -> None:
    assert whole_bundle(ROOT)["resources"] == resources


# Of https://docs.databricks.com/aws/en/dev-tools/bundles/settings and .../jobs/dynamic-value-references, what is used here. The
# published schema lets any key stand at the top.
BUNDLE_KEYS = {
    "": {"bundle", "include", "artifacts", "sync", "variables", "targets"},
    "bundle": {"name"},
    "artifacts.wheel": {"type", "build", "path"},
    "sync": {"exclude"},
    "variables.*": {"description", "default"},
    "targets.*": {"default", "mode", "variables", "workspace", "resources"},
    "targets.*.workspace": {"root_path"},
    "targets.*.resources": {"jobs"},
    "targets.*.resources.jobs": {"cesrec_nightly"},
    "targets.*.resources.jobs.cesrec_nightly": {"permissions"},
}
REFERENCES = {
    "{{job.start_time.iso_date}}",
    "{{job.parameters.config}}",
    "{{job.parameters.run_date}}",
    "${workspace.file_path}",
    "${bundle.name}",
    "${bundle.target}",
    "${resources.schemas.cesrec.name}",
    "${resources.volumes.warehouse.name}",
}


def test_keys_and_references_are_such_as_databricks_documents(bundle: dict[str, Any], resources: dict[str, Any]) -> None:
    """Of databricks.yml itself there is no model, and a reference that nobody fills in is a text like any other."""
    found = {
        "": bundle,
        "bundle": bundle["bundle"],
        "artifacts.wheel": bundle["artifacts"]["wheel"],
        "sync": bundle["sync"],
        **{f"variables.{name}": value for name, value in bundle["variables"].items()},
        **{f"targets.{name}": value for name, value in bundle["targets"].items()},
        "targets.prod.workspace": bundle["targets"]["prod"]["workspace"],
        "targets.prod.resources": (of_prod := bundle["targets"]["prod"]["resources"]),
        "targets.prod.resources.jobs": of_prod["jobs"],
        "targets.prod.resources.jobs.cesrec_nightly": of_prod["jobs"]["cesrec_nightly"],
    }
    for place, values in found.items():
        known = BUNDLE_KEYS[re.sub(r"^(variables|targets)\.\w+", r"\1.*", place)]
        assert set(values) <= known, place
    assert set(bundle["artifacts"]) == {"wheel"}
    assert bundle["artifacts"]["wheel"]["type"] == "whl"
    text = yaml.safe_dump([bundle, resources], width=10_000)
    used = set(re.findall(r"\{\{.*?\}\}|\$\{.*?\}", text))
    assert used == REFERENCES | {f"${{var.{name}}}" for name in bundle["variables"]}


def test_a_task_is_a_stage_and_they_stand_in_their_order(job: dict[str, Any]) -> None:
    assert [task["task_key"] for task in job["tasks"]] == NAMES
    assert [task.get("depends_on", []) for task in job["tasks"]] == [[], *([{"task_key": name}] for name in NAMES[:-1])]
    for task in job["tasks"]:
        file = (ROOT / "resources" / task["spark_python_task"]["python_file"]).resolve()
        assert file == ROOT / "jobs" / f"{task['task_key']}.py"
        assert file.is_file()
    clusters = {cluster["job_cluster_key"] for cluster in job["job_clusters"]}
    assert {task["job_cluster_key"] for task in job["tasks"]} == clusters == {"cpu", "gpu"}
    assert job["max_concurrent_runs"] == 1


def test_every_task_works_on_one_and_the_same_run(job: dict[str, Any], bundle: dict[str, Any]) -> None:
    """A run is named by its date, inputs, configuration and code: what tasks set apart must be no part of that."""
    configs = {}
    for task in job["tasks"]:
        arguments = [filled_in(text, bundle) for text in task["spark_python_task"]["parameters"]]
        options = list(zip(arguments[::2], arguments[1::2], strict=True))
        assert options[:2] == [("--config", "conf/databricks.yaml"), ("--run-date", "2026-03-02")]
        assert {option for option, _ in options[2:]} == {"--set"}
        configs[task["task_key"]] = load_config(ROOT / "conf" / "databricks.yaml", [value for _, value in options[2:]])
    assert len({config.result_hash() for config in configs.values()}) == 1
    assert len({config.warehouse for config in configs.values()}) == 1
    on_gpus = {name for name, config in configs.items() if config.ray.num_gpus_per_actor}
    assert on_gpus == {task["task_key"] for task in job["tasks"] if task["job_cluster_key"] == "gpu"}
    _check_rooms(configs, bundle)


def _check_rooms(configs: dict[str, Config], bundle: dict[str, Any]) -> None:
    """Tables and volume are those that the bundle makes, and Ray leaves Spark some cores."""
    catalog = bundle["variables"]["catalog"]["default"]
    for config in configs.values():
        assert config.warehouse.schema_name == f"{catalog}.{SCHEMA_AS_MADE}"
        assert config.warehouse.path == f"/Volumes/{catalog}/{SCHEMA_AS_MADE}/warehouse"
        assert config.ray.address == "spark"
        assert config.ray.cpus_per_spark_node in (6, bundle["variables"]["ray_cpus_per_gpu_node"]["default"])
        # Else a GPU would have nobody to work on it.
        per_node = max(1, config.ray.gpus_per_spark_node)
        assert per_node * config.ray.num_cpus_per_actor <= config.ray.cpus_per_spark_node


def test_every_variable_is_used_and_every_one_that_is_used_is_there(bundle: dict[str, Any]) -> None:
    text = yaml.safe_dump([bundle, read("resources/cesrec_nightly.job.yml")], width=10_000)
    assert set(re.findall(r"\$\{var\.(\w+)\}", text)) == set(bundle["variables"])
    for target in bundle["targets"].values():
        assert set(target.get("variables", {})) <= set(bundle["variables"])


def test_there_is_one_target_to_try_and_one_to_rely_on(bundle: dict[str, Any], job: dict[str, Any]) -> None:
    assert {name: target["mode"] for name, target in bundle["targets"].items()} == {"dev": "development", "prod": "production"}
    assert bundle["targets"]["dev"]["default"]
    # Mode development sets these where they are not set: a trial must not run every night, or several at a time.
    assert "pause_status" not in job["schedule"] and job["max_concurrent_runs"] == 1
    (pattern,) = bundle["include"]
    assert [path.name for path in ROOT.glob(pattern)] == ["cesrec_nightly.job.yml"]


def test_what_runs_at_night_lies_where_only_its_deployer_writes(bundle: dict[str, Any], job: dict[str, Any]) -> None:
    """Everybody of a workspace may write to /Workspace/Shared, and `users` is the group of everybody."""
    assert bundle["targets"]["prod"]["workspace"]["root_path"].startswith("/Workspace/Users/${var.deployer}/")
    # A workspace refuses a group that it does not have: who tries the bundle out has not been told of any.
    assert "permissions" not in job and "resources" not in bundle["targets"]["dev"]
    of_prod = bundle["targets"]["prod"]["resources"]["jobs"]["cesrec_nightly"]
    assert set(Job.from_dict({**job, **of_prod}).as_dict()) == {*job, "permissions"}
    assert [permission["group_name"] for permission in of_prod["permissions"]] == ["${var.operators}"]
    assert bundle["variables"]["operators"]["default"] not in ("users", "account users")


def test_who_starts_the_job_may_say_its_date_and_its_configuration(job: dict[str, Any]) -> None:
    defaults = {parameter["name"]: parameter["default"] for parameter in job["parameters"]}
    assert defaults.keys() == {"run_date", "config"}
    # A repaired run was started when it was started: it goes on with the same night.
    assert defaults["run_date"] == "{{job.start_time.iso_date}}"


def test_no_jars_are_brought_along(job: dict[str, Any]) -> None:
    """The runtime has its own Spark and Delta."""
    libraries = {key for task in job["tasks"] for library in task["libraries"] for key in library}
    assert libraries == {"whl", "pypi"}
    assert not {key for cluster in job["job_clusters"] for key in cluster["new_cluster"]["spark_conf"] if "jars" in key}
