"""Typed configuration: YAML with `extends`, `--set section.key=value`, and a model that knows every key.

Sections carry the names of the stages. Values live in conf/; here is only what a value may be. Relative paths in a
configuration are relative to the folder the job was started in.
"""

import difflib
import hashlib
import json
import re
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from cesrec_core.errors import ConfigError
from cesrec_core.logs import LogFormat
from cesrec_core.run_dates import is_date
from cesrec_core.shipped import find_file
from cesrec_core.table_names import SCHEMA_PATTERN

SchemaName = Annotated[str, StringConstraints(pattern=SCHEMA_PATTERN)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
DropoutShare = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0.0)]
# AdamW moves every weight by about so much a step; above one it only blows them up, in the end out of float32.
LearningRate = Annotated[float, Field(gt=0.0, le=1.0)]
# A date so many days before another has to be one that calendars know.
Days = Annotated[int, Field(ge=1, le=36_500)]
# Seeds of parts are multiples of it, and have to fit into 64 bits.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
# Of each training's section, what says when to train and for how long at most: nothing learns from it.
WHEN_TO_TRAIN = {
    "train_recommender": frozenset({"max_age_days", "max_new_interactions_share", "timeout_minutes"}),
    "train_adapter": frozenset({"max_alignment_drift", "timeout_minutes"}),
    "finetune_constructor": frozenset({"max_age_days", "timeout_minutes"}),
}

# Recommenders that have neither heads nor positions, whatever is set: a configuration is for any model, and training names
# what the one that is chosen does not read (`recommenders.registry.unread_settings`).
WITHOUT_ATTENTION = ("gru4rec", "markov", "popularity")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def is_uri(text: str) -> bool:
    """Whether it names something behind a file system of Hadoop's; with one slash, as Path writes it, it does, too."""
    return ":/" in text


class RunSection(Section):
    """What a run is: its date, its seed, whether consumers shall see it, and how it logs."""

    run_date: str | None = None
    seed: Seed = 20_240_909
    publish: bool = True
    log_format: LogFormat = "text"

    @field_validator("run_date")
    @classmethod
    def _date_is_iso(cls, value: str | None) -> str | None:
        if value is not None and not is_date(value):
            raise ValueError("give a date as YYYY-MM-DD, such as 2026-03-02")
        return value


class DatasetSection(Section):
    """Where raw data comes from. A folder, or one source each; a source is a file, a folder or a table name."""

    path: str | None = None
    interactions: str | None = None
    items: str | None = None
    feedback: str | None = None
    item_rules: str | None = None
    user_segments: str | None = None
    split: Literal["all", "leave_one_out"] = "all"
    has_real_timestamps: bool = False


class WarehouseSection(Section):
    """Where tables, shards and artifacts live. Tables are under `path`, or named `schema_name.<table>`."""

    path: str = "warehouse"
    schema_name: SchemaName | None = None

    @field_validator("path")
    @classmethod
    def _is_a_folder(cls, value: str) -> str:
        if is_uri(value):
            raise ValueError(
                "a URI, but shards and artifacts are ordinary files. Name a folder that every node sees, such as a mounted "
                "volume; tables themselves may lie in a catalog (warehouse.schema_name)"
            )
        return value


class SparkSection(Section):
    master: str | None = None
    shuffle_partitions: Count = 200
    snapshot_partitions: Count = 50
    is_ui_enabled: bool = True


class RaySection(Section):
    address: str | None = None
    num_actors: Count = 1
    num_cpus_per_actor: Annotated[float, Field(gt=0)] = 1.0
    num_gpus_per_actor: Annotated[float, Field(ge=0)] = 0.0
    spark_nodes: Count | None = None
    cpus_per_spark_node: Count | None = None
    gpus_per_spark_node: WholeNumber = 0
    object_store_mib: Count = 1024
    rows_per_shard: Count = 10_000
    max_attempts_per_shard: Count = 3

    @field_validator("num_gpus_per_actor")
    @classmethod
    def _a_worker_has_one_gpu(cls, value: float) -> float:
        if value > 1:
            raise ValueError("a worker computes on one GPU: give 1, or a share of one")
        return value


class IngestSection(Section):
    mode: Literal["snapshot", "append"] = "snapshot"
    max_quarantined_share: Share = 0.05
    min_items_per_derived_attribute: Count = 20
    max_text_characters: Count = 1000
    item_text: list[str] = ["{title}", "{attributes}", "{description}"]
    feedback_from: list[Literal["rating", "review"]] = []
    disliked_rating: float = 2.0
    liked_rating: float = 5.0

    @model_validator(mode="after")
    def _no_rating_is_liked_and_disliked(self) -> "IngestSection":
        if self.disliked_rating >= self.liked_rating:
            raise ValueError(
                f"disliked_rating is {self.disliked_rating:g} and liked_rating {self.liked_rating:g}; the first must be below "
                "the second"
            )
        return self

    @field_validator("item_text")
    @classmethod
    def _parts_hold_a_field_each(cls, parts: list[str]) -> list[str]:
        for part in parts:
            if len(re.findall(r"\{(?:title|attributes|description)\}", part)) != 1 or len(re.findall(r"[{}]", part)) != 2:
                raise ValueError(
                    f"each part holds one of {{title}}, {{attributes}}, {{description}} and no other braces; {part!r} does not"
                )
        if not any("{title}" in part for part in parts):
            raise ValueError("one part has to hold {title}, which is all that some items have")
        return parts


class BuildSequencesSection(Section):
    max_history_items: Count = 1000


class TrainRecommenderSection(Section):
    model: Literal["sasrec", "esasrec", "hstu", "gru4rec", "markov", "popularity"] = "sasrec"
    loss: Literal["cross_entropy", "sampled_softmax", "gbce", "bce"] = "cross_entropy"
    num_negatives: Count = 256
    popular_negatives_share: Share = 0.5
    gbce_calibration: Share = 0.75
    markov_decay: Share = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    is_compiled: bool = False
    num_processes: Count = 1
    embedding_dim: Count = 64
    num_blocks: Count = 2
    num_heads: Count = 1
    positions: Literal["learned", "rotary"] = "learned"
    similarity: Literal["dot", "cosine"] = "dot"
    temperature: Annotated[float, Field(gt=0)] = 0.05
    dropout: DropoutShare = 0.1
    max_history_items: Count = 200
    shift_windows: bool = False
    batch_size: Count = 128
    learning_rate: LearningRate = 1e-3
    averaged_epochs: Annotated[float, Field(ge=0)] = 0.0
    max_epochs: Count = 200
    patience_epochs: Count = 10
    max_age_days: Count = 30
    max_new_interactions_share: Share = 0.1
    timeout_minutes: Count = 1440

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "TrainRecommenderSection":
        if self.model in WITHOUT_ATTENTION:
            return self
        # Rotary positions turn pairs of channels.
        unit = self.num_heads * (2 if self.positions == "rotary" else 1)
        if self.embedding_dim % unit:
            raise ValueError(
                f"embedding_dim is {self.embedding_dim}, which {self.num_heads} heads with {self.positions} positions cannot "
                f"share; make it a multiple of {unit}"
            )
        return self


class EmbedItemsSection(Section):
    model_path: str = ""
    revision: str | None = None
    instruction: str = ""
    pooling: Literal["mean", "last", "weighted"] = "mean"
    max_tokens: Count = 64
    tokens_per_batch: Count = 8192
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    engine: Literal["transformers", "vllm"] = "transformers"
    max_refused_texts: WholeNumber = 10


class TrainAdapterSection(Section):
    hidden_width: Count | None = None
    max_epochs: Count = 200
    patience_epochs: Count = 20
    batch_size: Count = 256
    learning_rate: LearningRate = 1e-3
    validation_share: Share = 0.1
    held_out_share: Share = 0.1
    check_after_epochs: Count = 50
    max_alignment_loss: Annotated[float, Field(gt=0)] = 0.1
    max_normalised_loss: Annotated[float, Field(gt=0)] = 0.9
    max_alignment_drift: Annotated[float, Field(ge=0)] = 0.1
    timeout_minutes: Count = 360

    @model_validator(mode="after")
    def _something_is_left_to_learn_from(self) -> "TrainAdapterSection":
        if self.validation_share + self.held_out_share >= 1.0:
            raise ValueError(
                f"validation_share ({self.validation_share:g}) and held_out_share ({self.held_out_share:g}) leave no item to "
                "learn from; their sum must be below 1"
            )
        return self


class ProjectItemsSection(Section):
    batch_size: Count = 8192


class MaskOutliersSection(Section):
    num_masked: WholeNumber = 1
    min_kept_items: Count = 3
    max_history_items: Count = 20
    space: Literal["aligned", "semantic", "collaborative", "random"] = "aligned"
    is_adaptive: bool = False
    min_deviations: Annotated[float, Field(gt=0)] = 4.0

    @model_validator(mode="after")
    def _somebody_can_be_masked(self) -> "MaskOutliersSection":
        if self.num_masked + self.min_kept_items > self.max_history_items:
            raise ValueError(
                f"num_masked ({self.num_masked}) and min_kept_items ({self.min_kept_items}) exceed "
                f"max_history_items ({self.max_history_items}), so no history is ever masked; lower one, or raise the last"
            )
        return self


class FinetuneConstructorSection(Section):
    model_path: str = ""
    num_layers: Count | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora_rank: Count = 16
    lora_alpha: Count = 32
    lora_dropout: DropoutShare = 0.05
    lora_targets: list[str] | Literal["all-linear"] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False
    gradient_checkpointing: bool = False
    history_items: Count = 20
    max_feedback_tokens: Count = 48
    num_steps: Count = 2000
    checkpoint_every_steps: Count = 200
    batch_size: Count = 24
    learning_rate: LearningRate = 5e-4
    projection_learning_rate: LearningRate = 2e-3
    warmup_share: Share = 0.05
    next_place_share: Share = 0.5
    vague_share: Share = 0.05
    near_miss_share: Share = 0.5
    num_validation_users: Count = 256
    num_processes: Count = 1
    deepspeed_config: str = "conf/deepspeed/zero2.json"
    max_age_days: Count = 30
    timeout_minutes: Count = 720


class EndpointSection(Section):
    base_url: Annotated[str, StringConstraints(pattern=r"^(https?://[^\s/@?#]+(/[^\s@?#]*)?)?$")] = ""
    model: str = ""
    api_key_variable: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = "OPENAI_API_KEY"
    options: dict[str, Any] = {}
    timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    max_attempts: Count = 5
    max_wait_seconds: Annotated[float, Field(gt=0)] = 120.0
    requests_per_minute: Annotated[float, Field(gt=0)] = 60.0
    max_concurrent_requests: Count = 4
    max_requests: WholeNumber = 1000
    max_tokens: WholeNumber = 1_000_000


class SimulateFeedbackSection(Section):
    num_users: WholeNumber = 0
    max_attributes: Count = 2
    unwanted_share: Share = 0.5
    knows: Literal["target", "past"] = "target"
    moods: Annotated[list[Literal["plain", "patient", "terse", "vague", "contradictory"]], Field(min_length=1)] = ["plain"]
    engine: Literal["templates", "local", "endpoint"] = "templates"
    model_path: str = ""
    revision: str | None = None
    max_new_tokens: Count = 48
    endpoint: EndpointSection = EndpointSection()

    @model_validator(mode="after")
    def _engine_has_what_it_needs(self) -> "SimulateFeedbackSection":
        if self.engine == "endpoint" and not (self.endpoint.base_url and self.endpoint.model):
            raise ValueError("engine endpoint needs endpoint.base_url and endpoint.model: set both")
        return self


class UnderstandFeedbackSection(Section):
    model_path: str = ""
    revision: str | None = None
    max_utterance_characters: Count = 1000
    min_synonym_similarity: Annotated[float, Field(gt=0.0, le=1.0)] | None = 0.38
    window_days: Days = 30
    max_rounds: Annotated[int, Field(ge=1, le=3)] = 3


class ConstructSection(Section):
    decoder: Literal["items", "titles", "endpoint"] = "items"
    title_trie: bool = True
    written_titles: Literal["masked", "all"] = "masked"
    max_title_tokens: Count = 48
    endpoint: EndpointSection = EndpointSection()
    batch_size: Count = 32
    placement: Literal["in_place", "recent_end"] = "in_place"
    decoding: Literal["greedy", "beam", "sampling", "foresight"] = "greedy"
    num_beams: Count = 4
    num_proposals: Count = 32
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    num_candidates: WholeNumber = 0
    max_likelihood_drop: Weight | None = None
    num_question_candidates: Count = 100

    @model_validator(mode="after")
    def _decoder_has_what_it_needs(self) -> "ConstructSection":
        if self.decoder != "items" and self.decoding != "greedy":
            raise ValueError(f"decoding {self.decoding} is the item decoder's: set decoding to greedy, or decoder to items")
        if self.decoder == "endpoint" and not (self.endpoint.base_url and self.endpoint.model):
            raise ValueError("decoder endpoint needs endpoint.base_url and endpoint.model: set both")
        return self

    @property
    def needs_recommender(self) -> bool:
        """Whether rewriting asks the base recommender anything."""
        return self.num_candidates > 0 or self.max_likelihood_drop is not None or self.decoding == "foresight"


class RecommendSection(Section):
    base: Literal["recommender", "constructor"] = "recommender"
    top_k: Count = 10
    batch_size: Count = 1024
    include_cold_items: bool = False
    cold_item_bonus: Share = 0.5
    attribute_weight: Weight = 0.0
    aligned_weight: Weight = 0.0
    constructor_weight: Weight = 0.0
    rejected_days: Annotated[int, Field(ge=0, le=36_500)] = 90


class AuditSection(Section):
    min_ndcg_over_popularity: Weight = 1.0
    max_users_without_recommendations_share: Share = 0.01
    max_fallback_share: Share = 0.2
    min_aligned_coverage_share: Share = 0.9
    max_alignment_error: Annotated[float, Field(gt=0)] = 0.99
    max_alignment_rank_share: Share = 0.5
    max_norm_change: Annotated[float, Field(ge=0)] = 0.1
    max_users_masked_share_change: Share = 0.05
    min_mask_stability_share: Share = 0.8


class EvaluateSection(Section):
    """`variants`: names of rows of the table (`evaluation.variants.VARIANTS`) beside the base; none: all of them."""

    variants: list[str] = []
    max_users: Count = 3000
    num_negatives: Count = 100
    num_bootstrap_samples: Annotated[int, Field(ge=100)] = 2000
    weight_grid: list[Weight] = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]


class MaintainSection(Section):
    keep_runs: Count = 14
    retention_hours: Annotated[int, Field(ge=168)] = 336


class MlflowSection(Section):
    """Where runs are recorded, if anywhere. `tracking_uri`: a folder, a server, or `databricks`; None as MLflow finds it."""

    is_enabled: bool = False
    tracking_uri: str | None = None
    experiment: str = "cesrec"
    log_report: bool = True


class Config(Section):
    """The whole configuration; a section without values in YAML takes the defaults above."""

    run: RunSection = RunSection()
    dataset: DatasetSection = DatasetSection()
    warehouse: WarehouseSection = WarehouseSection()
    spark: SparkSection = SparkSection()
    ray: RaySection = RaySection()
    ingest: IngestSection = IngestSection()
    build_sequences: BuildSequencesSection = BuildSequencesSection()
    train_recommender: TrainRecommenderSection = TrainRecommenderSection()
    embed_items: EmbedItemsSection = EmbedItemsSection()
    train_adapter: TrainAdapterSection = TrainAdapterSection()
    project_items: ProjectItemsSection = ProjectItemsSection()
    mask_outliers: MaskOutliersSection = MaskOutliersSection()
    finetune_constructor: FinetuneConstructorSection = FinetuneConstructorSection()
    simulate_feedback: SimulateFeedbackSection = SimulateFeedbackSection()
    understand_feedback: UnderstandFeedbackSection = UnderstandFeedbackSection()
    construct_pseudo_sequences: ConstructSection = ConstructSection()
    recommend: RecommendSection = RecommendSection()
    audit: AuditSection = AuditSection()
    evaluate: EvaluateSection = EvaluateSection()
    maintain: MaintainSection = MaintainSection()
    mlflow: MlflowSection = MlflowSection()

    @model_validator(mode="after")
    def _masks_are_within_reach(self) -> "Config":
        if self.mask_outliers.max_history_items > self.finetune_constructor.history_items:
            raise ValueError(
                "mask_outliers.max_history_items must not exceed finetune_constructor.history_items: the Constructor could not "
                "see some of the masked places"
            )
        return self

    @model_validator(mode="after")
    def _ray_leaves_spark_room(self) -> "Config":
        ray = self.ray
        if ray.address == "spark" and ray.spark_nodes is None and ray.cpus_per_spark_node is None:
            raise ValueError(
                "ray.address spark would take every core that Spark has, and Spark would wait for ever: set "
                "ray.cpus_per_spark_node below the cores of a Spark worker, or ray.spark_nodes below their number"
            )
        if ray.gpus_per_spark_node and ray.cpus_per_spark_node is None:
            raise ValueError("ray.gpus_per_spark_node needs ray.cpus_per_spark_node beside it")
        return self

    @model_validator(mode="after")
    def _embeddings_take_half_the_bits_on_gpus(self) -> "Config":
        """By what is configured, not by what a worker finds: all workers of a run embed alike, and the id tells how."""
        if "dtype" not in self.embed_items.model_fields_set and self.ray.num_gpus_per_actor > 0:
            # Frozen, even for its own validators.
            object.__setattr__(self, "embed_items", self.embed_items.model_copy(update={"dtype": "bfloat16"}))
        return self

    @model_validator(mode="after")
    def _vllm_has_what_it_needs(self) -> "Config":
        if self.embed_items.engine == "vllm" and self.ray.num_gpus_per_actor == 0:
            raise ValueError("embed_items.engine vllm needs a GPU or a share of one: set ray.num_gpus_per_actor")
        if self.embed_items.engine == "vllm" and self.embed_items.pooling == "weighted":
            raise ValueError("embed_items.pooling weighted is not known to vLLM: set mean or last, or engine transformers")
        return self

    @model_validator(mode="after")
    def _simulated_users_have_a_target(self) -> "Config":
        if self.simulate_feedback.num_users and self.dataset.split == "all":
            raise ValueError(
                "simulate_feedback.num_users needs dataset.split leave_one_out: simulated users speak of the item that is "
                "held back"
            )
        return self

    def result_hash(self) -> str:
        """Hash of every value that can change a result: where things live, how many workers there are, what the audit allows,
        and how long a training may take do not. So a run that was stopped by a limit goes on there when that is raised."""
        return hashlib.sha256(json.dumps(self.values_of_results(), sort_keys=True).encode()).hexdigest()[:16]

    def values_of_results(self) -> dict[str, dict[str, Any]]:
        """Those values, by section and key."""
        elsewhere = {"warehouse", "spark", "ray", "audit", "evaluate", "maintain", "mlflow"}
        values = self.model_dump(mode="json", exclude=elsewhere)
        values["run"].pop("run_date")
        values["run"].pop("publish")
        values["run"].pop("log_format")
        values["dataset"] = {"split": self.dataset.split}
        for section in WHEN_TO_TRAIN:
            values[section].pop("timeout_minutes")
        return values


def load_config(path: str | Path | None, overrides: typing.Sequence[str] = ()) -> Config:
    """Read a YAML file, the files it extends, then `section.key=value` overrides (values parsed as YAML).

    `extends` is relative to the file that says it. Of a file conf/NAME that is not there, also of one that is extended, the
    one that ships with the library is read (`shipped.find_file`). Without a file the overrides stand on the built-in defaults.

    Raises:
        ConfigError: a file is missing or not YAML, a key is unknown (the nearest valid one is named), or a value
            has the wrong type or is out of range.
    """
    values: dict[str, Any] = _read_with_parents(find_file(Path(path)), ()) if path is not None else {}
    overridden = {_apply_override(values, override) for override in overrides}
    return parse_config(values, str(path or "--set"), overridden)


def parse_config(values: dict[str, Any], source: str, overridden: Collection[str] = ()) -> Config:
    """Validate nested values.

    Args:
        source: where they came from, for errors.
        overridden: dotted keys that came from --set instead.
    """
    _refuse_unknown_keys(values, Config, (), source, overridden)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        source = _source_of(where, source, overridden)
        if not where or isinstance(first["input"], dict):  # values that do not go together
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{source}: {where}{': ' if where else ''}{message}.") from None
        raise ConfigError(
            f"{source}: {where} is {first['input']!r}, which does not fit: {first['msg']}. Correct it there or with "
            f"--set {where}=..."
        ) from None


class _RepeatedKeyError(yaml.YAMLError):
    """A mapping holds a key twice, of which YAML's reader would drop the first and tell nobody."""

    def __init__(self, key: str, first_line: int, line: int) -> None:
        where = f"line {line}" if line == first_line else f"lines {first_line} and {line}"
        super().__init__(f"the key {key} twice ({where})")


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does, leaves dates the text that they are written as, and refuses a key that stands
    twice in one place."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """As it is written: later on, keys that `<<` takes over stand among a mapping's own."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            # 1 and "1" are two keys.
            same = key.tag, key.value
            if same in lines:
                raise _RepeatedKeyError(key.value, lines[same], line)
            lines[same] = line
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))


def _from_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"There is no configuration file {path}. Give one with --config, such as conf/local.yaml.")
    if path.resolve() in children:
        raise ConfigError(
            f"{path} extends itself, through {' -> '.join(str(child) for child in children)}. Remove one `extends`."
        )
    try:
        values = _from_yaml(path.read_text(encoding="utf-8")) or {}
    except _RepeatedKeyError as error:
        raise ConfigError(f"{path} holds {error}, and only one can count. Leave one of them.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8. Save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}. Give this user the right to, or name another file."
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; a configuration is a mapping of sections.")
    values = _with_empty_sections(values, Config)
    parent = values.pop("extends", None)
    if parent in (None, ""):
        return values
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: `extends` is {parent!r}; it has to be the path of one file.")
    return _merged(_read_with_parents(find_file(Path(parent), path.parent), (*children, path.resolve())), values)


def _with_empty_sections(values: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """A section with nothing below it, or with nothing but comments, says nothing; YAML reads null there, which is a value."""
    result = {}
    for key, value in values.items():
        section = _section_of(model, key)
        if section is not None and value is None:
            value = {}
        result[key] = _with_empty_sections(value, section) if section is not None and isinstance(value, dict) else value
    return result


def _section_of(model: type[BaseModel], key: Any) -> type[BaseModel] | None:
    """The model of what is below a key; None where it is a value, or unknown."""
    kind = model.model_fields[key].annotation if key in model.model_fields else None
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and issubclass(kind, BaseModel):
        return kind
    return None


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both_nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both_nested else value
    return result


def _apply_override(values: dict[str, Any], override: str) -> str:
    """Put one override into the values.

    Returns:
        The dotted key.
    """
    match = re.fullmatch(r"([\w.]+)=(.*)", override, flags=re.DOTALL)
    if match is None or "." not in match.group(1):
        raise ConfigError(f"--set {override!r} is not of the form section.key=value.")
    *parents, key = match.group(1).split(".")
    target = values
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override!r}: {parent} is a value, not a section.")
    try:
        value = _from_yaml(match.group(2))
    except _RepeatedKeyError as error:
        raise ConfigError(f"--set {override!r} holds {error}, and only one can count. Leave one of them.") from None
    except yaml.YAMLError:
        value = match.group(2)
    # Of a text without quotes YAML drops everything from " #" on; here it is part of a path as likely as not.
    is_plain_text = isinstance(value, str) and not match.group(2).lstrip().startswith(("'", '"'))
    target[key] = match.group(2).strip() if is_plain_text else value
    return match.group(1)


def _source_of(where: str, source: str, overridden: Collection[str]) -> str:
    """Who set the key: the command line, where it or a key around or inside it was overridden, else `source`."""
    path = where.split(".")
    for key in overridden:
        other = key.split(".")
        if all(a == b for a, b in zip(path, other, strict=False)):
            return "--set"
    return source


def _refuse_unknown_keys(
    values: Any, model: type[BaseModel], at: tuple[str, ...], source: str, overridden: Collection[str]
) -> None:
    if not isinstance(values, dict):
        where = ".".join(at)
        raise ConfigError(
            f"{_source_of(where, source, overridden)}: {where} is {values!r}; it is a section with keys of its own."
        )
    for key, value in values.items():
        if key not in model.model_fields:
            where = ".".join((*at, str(key)))
            near = difflib.get_close_matches(str(key), model.model_fields, n=1)
            hint = f"Did you mean {'.'.join((*at, near[0]))}?" if near else f"Known there: {', '.join(model.model_fields)}."
            raise ConfigError(f"{_source_of(where, source, overridden)}: unknown key {where}. {hint}")
        if (nested := _section_of(model, key)) is not None:
            _refuse_unknown_keys(value if value is not None else {}, nested, (*at, str(key)), source, overridden)
