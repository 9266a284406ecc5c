import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cesrec_core.config import Config, load_config, parse_config
from cesrec_core.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_shipped_configuration_loads() -> None:
    paths = sorted(CONF.rglob("*.yaml"))
    assert {path.name for path in paths} >= {"base.yaml", "local.yaml"}
    for path in paths:
        assert isinstance(load_config(path), Config)


def test_base_yaml_explains_every_value() -> None:
    """A value that is left out stands there as a comment."""
    explained: dict[str, set[str]] = {}
    section = ""
    for line in (CONF / "base.yaml").read_text().splitlines():
        if match := re.match(r"(\w+):(?: +#.*)?$", line):
            section = match[1]
        elif match := re.match(r"  (?:# )?(\w+):", line):
            explained.setdefault(section, set()).add(match[1])
    fields = {section: set(field.annotation.model_fields) for section, field in Config.model_fields.items()}  # type: ignore[union-attr]
    assert explained == fields


def test_base_yaml_spells_out_every_value() -> None:
    """What a reader of conf/base.yaml does not see there must be something that has to be left out."""
    shipped = yaml.safe_load((CONF / "base.yaml").read_text())
    left_out = {
        f"{section}.{key}"
        for section, field in Config.model_fields.items()
        for key in field.annotation.model_fields  # type: ignore[union-attr]
        if key not in shipped.get(section, {})
    }
    assert left_out == {
        "run.run_date",
        "dataset.path",
        "dataset.interactions",
        "dataset.items",
        "dataset.feedback",
        "dataset.item_rules",
        "dataset.user_segments",
        "warehouse.schema_name",
        "spark.master",
        "ray.address",
        "ray.spark_nodes",
        "ray.cpus_per_spark_node",
        "embed_items.model_path",
        "embed_items.revision",
        "embed_items.dtype",
        "train_adapter.hidden_width",
        "finetune_constructor.model_path",
        "finetune_constructor.num_layers",
        "construct_pseudo_sequences.max_likelihood_drop",
        "understand_feedback.model_path",
        "understand_feedback.revision",
        "simulate_feedback.model_path",
        "simulate_feedback.revision",
        "mlflow.tracking_uri",
    }


def test_extends_is_merged_key_by_key_and_the_child_wins(tmp_path: Path) -> None:
    write(tmp_path / "parent.yaml", "recommend: {top_k: 7, batch_size: 5}\nrun: {seed: 3}\n")
    child = write(tmp_path / "child.yaml", "extends: parent.yaml\nrecommend: {top_k: 9}\n")
    config = load_config(child)
    assert (config.recommend.top_k, config.recommend.batch_size, config.run.seed) == (9, 5, 3)


def test_a_file_of_ones_own_extends_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From wherever the job is started, whose folder does not count; a file beside it comes first."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere / "parent.yaml", "recommend: {top_k: 7}\n")
    monkeypatch.chdir(elsewhere)
    mine = write(tmp_path / "mine.yaml", "extends: conf/local.yaml\nrecommend: {top_k: 9}\n")
    config = load_config(mine)
    assert (config.recommend.top_k, config.finetune_constructor.num_layers) == (9, 6)
    (tmp_path / "conf").mkdir()
    write(tmp_path / "conf" / "local.yaml", "finetune_constructor: {num_layers: 2}\n")
    assert load_config(mine).finetune_constructor.num_layers == 2
    for name in ("conf/nothing.yaml", "parent.yaml"):
        missing = write(tmp_path / "of_nothing.yaml", f"extends: {name}\n")
        with pytest.raises(ConfigError, match=f"There is no configuration file {re.escape(str(tmp_path / name))}"):
            load_config(missing)


def test_a_circle_of_extends_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml\n")
    write(tmp_path / "b.yaml", "extends: a.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_config(tmp_path / "a.yaml")


def test_set_overrides_with_yaml_values(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "recommend: {top_k: 7}\n")
    config = load_config(path, ["recommend.top_k=3", "evaluate.weight_grid=[0.0, 1.0]", "dataset.path=/data/x"])
    assert config.recommend.top_k == 3
    assert config.evaluate.weight_grid == [0.0, 1.0]
    assert config.dataset.path == "/data/x"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recommend.topk=3", r"Did you mean recommend\.top_k\?"),
        ("recomend.top_k=3", r"Did you mean recommend\?"),
        ("train_recommender.lr=1", r"Known there: .*, learning_rate,"),
        ("recommend.top_k=many", r"recommend\.top_k is 'many'"),
        ("recommend.top_k=0", r"recommend\.top_k is 0"),
        ("recommend.top_k=3.0", r"recommend\.top_k is 3\.0"),
        ("top_k=3", "section.key=value"),
        ("recommend", "section.key=value"),
        ("recommend.top_k.x=3", "is a value, not a section"),
        ("run.run_date=tomorrow", r"run\.run_date is 'tomorrow'"),
        ("warehouse.schema_name=text.`/etc/hostname`", r"warehouse\.schema_name"),
        ("warehouse.schema_name=catalog.schema.table", r"warehouse\.schema_name"),
        ("warehouse.schema_name='main.x y'", r"warehouse\.schema_name"),
        ("warehouse.path=s3://bucket/warehouse", r"warehouse\.path is 's3://bucket/warehouse', .* a URI, but shards"),
        ("warehouse.path=/dbfs:/warehouse", "a URI"),
        ("mask_outliers.max_history_items=50", "could not see some of the masked places"),
        ("simulate_feedback.num_users=5", "leave_one_out"),
        ("train_recommender.num_heads=3", r"train_recommender: embedding_dim is 64, which 3 heads .* make it a multiple of 3"),
        ("train_recommender.dropout=1.0", r"train_recommender\.dropout is 1\.0"),
        ("train_recommender.learning_rate=.inf", "finite"),
        ("train_recommender.learning_rate=1e300", "less than or equal to 1"),
        ("recommend.attribute_weight=.nan", "finite"),
        ("run.seed=100000000000000000000000", "run.seed"),
        ("ray.num_gpus_per_actor=2", "a worker computes on one GPU"),
        ("train_adapter.validation_share=0.95", r"validation_share \(0\.95\) and held_out_share \(0\.1\) leave no item"),
        ("understand_feedback.window_days=999999999", "36500"),
    ],
)
def test_a_wrong_override_says_what_where_and_how(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path / "c.yaml", "recommend: {top_k: 7}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(path, [override])


@pytest.mark.parametrize(
    ("in_file", "override", "source"),
    [
        ("{}", "evaluate.nonsense=1", "--set"),
        ("{}", "mask_outliers.num_masked=-1", "--set"),
        ("{}", "mask_outliers.num_masked=18", "--set"),
        ("evaluate: {nonsense: 1}", "run.seed=1", "c.yaml"),
        ("mask_outliers: {num_masked: -1}", "mask_outliers.space=random", "c.yaml"),
    ],
)
def test_an_error_names_the_file_or_the_command_line_whichever_set_the_key(
    tmp_path: Path, in_file: str, override: str, source: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(in_file)
    with pytest.raises(ConfigError) as caught:
        load_config(path, [override])
    assert str(caught.value).split(":")[0].endswith(source)


def test_rotary_positions_need_pairs_of_channels(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "train_recommender: {embedding_dim: 10, num_heads: 2, positions: learned}")
    assert load_config(path).train_recommender.num_heads == 2
    with pytest.raises(ConfigError, match="make it a multiple of 4"):
        load_config(path, ["train_recommender.positions=rotary"])


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("run.run_date=2026-11-24", "2026-11-24"),
        ("run.run_date='2026-11-24'", "2026-11-24"),
        ("run.run_date=null", None),
        ("train_recommender.learning_rate=1e-3", 0.001),
        ("train_recommender.learning_rate=2.5E-4", 0.00025),
        ("warehouse.path=/tmp/a #b", "/tmp/a #b"),
        ("warehouse.path='/tmp/a'", "/tmp/a"),
        ("recommend.include_cold_items=true", True),
    ],
)
def test_overrides_mean_what_they_say(tmp_path: Path, override: str, value: object) -> None:
    path = write(tmp_path / "c.yaml", "run: {run_date: 2026-01-31}\ntrain_recommender: {learning_rate: 5e-4}\n")
    assert load_config(path).run.run_date == "2026-01-31"
    assert load_config(path).train_recommender.learning_rate == 0.0005
    section, _, key = override.partition("=")[0].partition(".")
    assert getattr(getattr(load_config(path, [override]), section), key) == value


def test_every_value_of_base_yaml_says_its_unit_or_its_consequence() -> None:
    """In a comment beside it or in its name."""
    units = (
        "_steps",
        "_epochs",
        "_days",
        "_items",
        "_users",
        "_minutes",
        "_hours",
        "_tokens",
        "_characters",
        "_share",
        "_runs",
    )
    silent = [
        line.strip()
        for line in (CONF / "base.yaml").read_text().splitlines()
        if line.startswith("  ") and "#" not in line and not line.partition(":")[0].endswith(units)
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: {path: /a}\nrun: {seed: 1}\ndataset: {split: all}\n", r"the key dataset twice \(lines 1 and 3\)"),
        ("recommend:\n  top_k: 7\n  rejected_days: 3\n  top_k: 9\n", r"the key top_k twice \(lines 2 and 4\)"),
        ("recommend: {top_k: 7, 'top_k': 9}\n", r"the key top_k twice \(line 1\)"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"c\.yaml holds {message}, and only one can count"):
        load_config(write(tmp_path / "c.yaml", text))


def test_a_key_that_is_taken_over_may_be_said_anew(tmp_path: Path) -> None:
    text = "evaluate: &limits {max_users: 7}\nconstruct_pseudo_sequences: {endpoint: {options: {<<: *limits, max_users: 9}}}\n"
    endpoint = load_config(write(tmp_path / "c.yaml", text)).construct_pseudo_sequences.endpoint
    assert endpoint.options == {"max_users": 9}
    with pytest.raises(ConfigError, match=r"--set .* holds the key a twice"):
        load_config(None, ["construct_pseudo_sequences.endpoint.options={a: 1, a: 2}"])


def test_an_empty_section_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "recommend: {top_k: 7}\n")
    path = write(tmp_path / "c.yaml", "extends: base.yaml\nrun:\nrecommend:\n  # top_k: 9\nsimulate_feedback:\n  endpoint:\n")
    assert load_config(path).recommend.top_k == 7
    assert load_config(path, ["run.seed=5"]).run.seed == 5
    # A value may be null, and then is.
    assert load_config(write(path, "run: {run_date: }\n")).run.run_date is None


def test_yaml_that_does_not_parse(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "recommend: {top_k: 7\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(path)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ("['{attributes}']", "one part has to hold {title}"),
        ("['{title} {attributes}']", "each part holds one of"),
        ("['{title}', 'words alone']", "each part holds one of"),
        ("['{title}', '{price}']", "each part holds one of"),
        ("['{title} }']", "each part holds one of"),
    ],
)
def test_an_item_text_that_cannot_be_made(tmp_path: Path, parts: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(write(tmp_path / "c.yaml", "{}"), [f"ingest.item_text={parts}"])


def test_hash_follows_results_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "recommend: {top_k: 7}\n")
    base = load_config(path).result_hash()
    elsewhere = ("ray.num_actors=9", "warehouse.path=/elsewhere", "run.run_date='2026-01-01'", "run.publish=false")
    # Who raises what a training ran out of goes on with the same run.
    times = [f"{section}.timeout_minutes=9" for section in ("train_recommender", "train_adapter", "finetune_constructor")]
    for override in (*elsewhere, *times):
        assert load_config(path, [override]).result_hash() == base
    for override in ("recommend.top_k=8", "run.seed=1", "mask_outliers.num_masked=2", "dataset.split=leave_one_out"):
        assert load_config(path, [override]).result_hash() != base


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "night.yaml"
    path.write_bytes("dataset: {path: b\u00fccher}".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"night\.yaml is not text in UTF-8"):
        load_config(path)
    path.write_text("extends: [a.yaml, b.yaml]", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"`extends` is \['a.yaml', 'b.yaml'\]; it has to be the path of one file"):
        load_config(path)

    def refuse(*args: object, **options: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match=r"night\.yaml cannot be read: Permission denied"):
        load_config(path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["embed_items.engine=vllm"], "set ray.num_gpus_per_actor"),
        (["embed_items.engine=vllm", "ray.num_gpus_per_actor=1", "embed_items.pooling=weighted"], "set mean or last"),
    ],
)
def test_what_vllm_lacks_is_said_before_anything_runs(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides)


@pytest.mark.parametrize(
    ("ray", "message"),
    [({"address": "spark"}, "Spark would wait for ever"), ({"gpus_per_spark_node": 1}, "needs ray.cpus_per_spark_node")],
)
def test_ray_on_spark_leaves_spark_some_cores(ray: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"ray": ray}, "c.yaml")


def test_embeddings_take_half_the_bits_where_workers_have_gpus_unless_a_type_is_set() -> None:
    def dtype(ray: dict[str, Any], embed_items: dict[str, Any]) -> str:
        return parse_config({"ray": ray, "embed_items": embed_items}, "test").embed_items.dtype

    assert dtype({}, {}) == "float32"
    assert dtype({"num_gpus_per_actor": 0.25}, {}) == "bfloat16"
    assert dtype({"num_gpus_per_actor": 1.0}, {"dtype": "float32"}) == "float32"
    assert dtype({}, {"dtype": "float16"}) == "float16"
    hashes = {parse_config({"ray": {"num_gpus_per_actor": gpus}}, "test").result_hash() for gpus in (0.0, 0.5, 1.0)}
    # Half the bits are another result; more workers on a GPU are not.
    assert len(hashes) == 2
