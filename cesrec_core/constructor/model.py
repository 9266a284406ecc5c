"""The Constructor: a causal language model with LoRA that reads and writes items as single vectors.

An item enters as the mean of its text's token embeddings plus a learned projection of [semantic ; collaborative]; it leaves
as a dot product of the hidden state with what is known of it. No generated text, so no item outside the catalogue.

Dimensions: B users, S slots, P scored places, N items of the catalogue, H width of the language model, E semantic width,
D collaborative width.
"""

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from cesrec_core.constructor.layout import (
    DECIDES,
    ITEM,
    MASK,
    PADDING,
    SEPARATOR,
    TOKEN,
    WORD,
    Prompt,
    Slots,
    TokenIds,
    token_ids,
)
from cesrec_core.errors import ArtifactError, ConfigError
from cesrec_core.prompts import MAX_TITLE_CHARACTERS, attribute_words, clean_text
from cesrec_core.token_counts import watch

if TYPE_CHECKING:
    from peft import PeftModel

# Learned vectors start small beside token embeddings, so that the language model first sees words it knows. The projection of
# an item's other vectors starts larger than the mean of its words, to which it is added: small, it learned less
# (CONTRIBUTING.md).
_START_STD = 0.02
_START_WISH_GATE = 0.1


@dataclass(frozen=True)
class ConstructorSettings:
    """What is needed to rebuild a Constructor around its language model.

    Attributes:
        num_layers: the first layers that are kept; None keeps all.
        history_items: longest history it was trained on; callers truncate to the newest.
        max_feedback_tokens: an utterance is cut after so many tokens.
        lora_targets: names of the layers that get a LoRA, or "all-linear".
        use_rslora: scale by alpha / sqrt(rank) instead of alpha / rank (arXiv 2312.03732).
        use_dora: learn magnitude and direction of the weights apart (arXiv 2402.09353).
        dtype: of the frozen language model; the trained parts around it are float32.
    """

    num_layers: int | None = None
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    lora_targets: tuple[str, ...] | str = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False
    history_items: int = 20
    max_feedback_tokens: int = 48
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """What is known of each item, in the order of the catalogue.

    Attributes:
        titles: N titles; untrusted text.
        attributes: N tuples of attributes.
        semantic: float [N, E].
        collaborative: float [N, D]; for items unknown to the recommender the caller puts in the aligned embedding.
    """

    titles: Sequence[str]
    attributes: Sequence[Sequence[str]]
    semantic: torch.Tensor
    collaborative: torch.Tensor

    def __post_init__(self) -> None:
        lengths = {len(self.titles), len(self.attributes), len(self.semantic), len(self.collaborative)}
        if len(lengths) != 1:
            raise ArtifactError(
                f"Item features do not fit together: {len(self.titles)} titles, {len(self.attributes)} attribute lists, "
                f"{len(self.semantic)} semantic and {len(self.collaborative)} collaborative vectors. Export them again "
                "from one catalogue."
            )


@dataclass(frozen=True, eq=False)
class ScoredBatch:
    """Sequences with v* teacher-forced, and the places whose loss is wanted.

    Attributes:
        slots: [B, S].
        rows, columns: int64 [P], the slot whose state decides each scored place.
        targets: int64 [P], true item codes.
        is_masked_place: bool [P], True for a decision, False for a copy.
        taken: int64 [P, L], item codes that stand at the other places of the sequence; -1 pads.
    """

    slots: Slots
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    is_masked_place: torch.Tensor
    taken: torch.Tensor

    def to(self, device: torch.device) -> "ScoredBatch":
        tensors = (self.rows, self.columns, self.targets, self.is_masked_place, self.taken)
        return ScoredBatch(self.slots.to(device), *(tensor.to(device) for tensor in tensors))


class ItemConstructor(nn.Module):
    """The frozen language model, its LoRA, and the small learned parts around it.

    `item_text` is float32 [N, H] and `item_features`, [semantic ; collaborative], float32 [N, E + D];
    `is_attribute_token` is bool [size of the vocabulary].
    """

    item_text: torch.Tensor
    item_features: torch.Tensor
    is_attribute_token: torch.Tensor
    text_center: torch.Tensor
    text_scale: torch.Tensor
    semantic_scale: torch.Tensor
    collaborative_scale: torch.Tensor

    def __init__(self, trunk: "PeftModel", tokenizer: TokenIds, settings: ConstructorSettings, items: ItemFeatures) -> None:
        super().__init__()
        self.settings = settings
        self.trunk = trunk
        self.prompt = Prompt(tokenizer, settings.max_feedback_tokens)
        self.semantic_width = int(items.semantic.shape[1])
        self._add_learned_parts(int(trunk.get_input_embeddings().weight.shape[1]), items)
        self._add_item_buffers(tokenizer, items)

    def _add_learned_parts(self, width: int, items: ItemFeatures) -> None:
        collaborative_width = items.collaborative.shape[1]
        self.input_projection = nn.Linear(self.semantic_width + collaborative_width, width, bias=False)
        self.mask_vector = nn.Parameter(torch.randn(width) * _START_STD)
        self.separator_vector = nn.Parameter(torch.randn(width) * _START_STD)
        self.deciding_vector = nn.Parameter(torch.randn(width) * _START_STD)
        # Random signs keep the item to copy apart from the item before it, which stands in the same slot.
        self.copying_gate = nn.Parameter(torch.randint(0, 2, (width,)).float() - 0.5)
        self.collaborative_query = nn.Linear(width, collaborative_width)
        self.text_query = nn.Linear(width, width)
        # A short way from words to items, see `wish`. Without it the loss stays on a plateau for the first hundreds of steps.
        self.polarity = nn.Linear(width, 1)
        self.wish_gate = nn.Parameter(torch.full((width,), _START_WISH_GATE))
        # Temperatures as logarithms of their inverse: [collaborative, text]. 1 / sqrt(width) as in attention.
        self.log_scales = nn.Parameter(torch.tensor([-0.5 * math.log(collaborative_width), -0.5 * math.log(width)]))
        for layer in (self.input_projection, self.collaborative_query, self.text_query):
            nn.init.normal_(layer.weight, std=_START_STD)
        for query in (self.collaborative_query, self.text_query):
            nn.init.zeros_(query.bias)
        # Every attribute that is spoken of starts as a wish.
        nn.init.zeros_(self.polarity.weight)
        nn.init.ones_(self.polarity.bias)

    def _add_item_buffers(self, tokenizer: TokenIds, items: ItemFeatures) -> None:
        embedding = self.trunk.get_input_embeddings()
        text = _text_vectors(embedding, tokenizer, items)
        # Item features depend on the catalogue and are recomputed at load; how they are normalised is part of what was learned.
        self.register_buffer("item_text", text, persistent=False)
        self.register_buffer("is_attribute_token", _attribute_tokens(embedding, tokenizer, items), persistent=False)
        self.register_buffer("item_features", torch.cat([items.semantic, items.collaborative], 1).float(), persistent=False)
        self.register_buffer("text_center", text.mean(0))
        self.register_buffer("text_scale", _inverse_rms(text - text.mean(0)))
        self.register_buffer("semantic_scale", _inverse_rms(items.semantic.float()))
        self.register_buffer("collaborative_scale", _inverse_rms(items.collaborative.float()))

    @classmethod
    def build(cls, base_folder: Path, settings: ConstructorSettings, items: ItemFeatures) -> "ItemConstructor":
        """A Constructor with untrained LoRA around the language model in `base_folder`.

        Raises:
            ConfigError: the folder has no model, no weights or no tokenizer, fewer layers than asked for, or no layer
                of a name in `lora_targets`.
        """
        # Seconds, which every job and every worker would pay at the top of this file, and few of them need it.
        from peft import LoraConfig, get_peft_model

        language_model, tokenizer = load_language_model(base_folder, settings.num_layers, settings.dtype)
        trunk = language_model.base_model
        lora = LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=_lora_targets(trunk, settings.lora_targets),
            use_rslora=settings.use_rslora,
            use_dora=settings.use_dora,
        )
        with warnings.catch_warnings():
            # Peft asks it of transformers by a name of before; nobody who runs a job can mend that.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            adapted = get_peft_model(trunk, lora)
        return cls(adapted, tokenizer, settings, items)

    def recompute_activations(self, use_reentrant: bool) -> None:
        """Gradient checkpointing: keep one activation per layer, and compute the others again on the way back."""
        trunk: Any = self.trunk.get_base_model()
        # The name of before, which later versions warn of, is the only one that earlier versions have.
        name = "activation_checkpointing_enable"
        enable = getattr(trunk, name if hasattr(trunk, name) else "gradient_checkpointing_enable")
        enable({"use_reentrant": use_reentrant})

    @property
    def num_items(self) -> int:
        return int(self.item_text.shape[0])

    @property
    def device(self) -> torch.device:
        return self.mask_vector.device

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def embed_items(self, codes: torch.Tensor) -> torch.Tensor:
        """Item codes int64 [...] to input embeddings float32 [..., H]."""
        features = self.item_features[codes]
        semantic, collaborative = features[..., : self.semantic_width], features[..., self.semantic_width :]
        scaled = torch.cat([semantic * self.semantic_scale, collaborative * self.collaborative_scale], -1)
        projected: torch.Tensor = self.input_projection(scaled)
        return self.item_text[codes] + projected

    def embed_slots(self, slots: Slots) -> torch.Tensor:
        """Input embeddings float32 [B, S, H]; padding is the zero vector."""
        kinds, values = slots.kinds, slots.values
        table = self.trunk.get_input_embeddings()
        embedded = self.mask_vector.new_zeros(*kinds.shape, self.mask_vector.shape[0])
        is_text = (kinds == TOKEN) | (kinds == WORD)
        embedded[is_text] = table(values[is_text]).float()
        embedded[kinds == ITEM] = self.embed_items(values[kinds == ITEM])
        embedded[kinds == MASK] = self.mask_vector
        embedded[kinds == SEPARATOR] = self.separator_vector
        embedded[slots.asked == DECIDES] += self.deciding_vector
        embedded[slots.asked >= 0] += self.copying_gate * self.embed_items(slots.asked[slots.asked >= 0])
        return embedded

    def read(self, slots: Slots, continuing: Mapping[str, Any] | None = None) -> torch.Tensor:
        """Run the language model over slots.

        Args:
            slots: [B, S].
            continuing: the trunk's attention_mask, position_ids, past_key_values and use_cache, where the slots follow others.

        Returns:
            The states [B, S, H] of the slots; meaningless where they are padding.
        """
        embedded = self.embed_slots(slots).to(self.trunk.get_input_embeddings().weight.dtype)
        place = continuing or {"attention_mask": (slots.kinds != PADDING).long(), "use_cache": False}
        states: torch.Tensor = self.trunk(inputs_embeds=embedded, **place).last_hidden_state
        return states

    def wish(self, slots: Slots, states: torch.Tensor) -> torch.Tensor:
        """What the words ask for, in the space of the items' text.

        The mean embedding of those tokens of the utterance that occur in attributes of the catalogue, each with a sign that is
        read off its state: a word that was turned down counts against the items that carry it.

        Args:
            slots: [B, S], with the words.
            states: [B, S, H], what the trunk made of them.

        Returns:
            float32 [B, H], normalised like the items' text; zero where the words name no attribute.
        """
        is_named = ((slots.kinds == WORD) & self.is_attribute_token[slots.values]).unsqueeze(-1)
        signs = torch.tanh(self.polarity(states.float())) * is_named
        embedded = self.trunk.get_input_embeddings()(slots.values * is_named.squeeze(-1)).float() - self.text_center
        mean: torch.Tensor = (signs * embedded).sum(1) / is_named.sum(1).clamp(min=1)
        return mean * self.text_scale

    def score(self, states: torch.Tensor, wish: torch.Tensor) -> torch.Tensor:
        """Logits of all items.

        Args:
            states: [P, H], of the slots that decide.
            wish: float32 [P, H], of their users' words; zeros for slots that have a copy to make.

        Returns:
            float32 [P, N].
        """
        by_behaviour, by_text = self._queries(states, wish)
        collaborative = self.item_features[:, self.semantic_width :]
        # query @ (text - center).T without a centred copy of the table, which would be as large as the table itself.
        text_scores = by_text @ self.item_text.T - (by_text @ self.text_center).unsqueeze(-1)
        return by_behaviour @ collaborative.T + text_scores

    def _queries(self, states: torch.Tensor, wish: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is looked for, float32 [P, D] among collaborative vectors and [P, H] among texts."""
        states = states.float()
        scales = self.log_scales.exp()
        by_behaviour: torch.Tensor = self.collaborative_query(states) * (scales[0] * self.collaborative_scale)
        by_text: torch.Tensor = (self.text_query(states) + self.wish_gate * wish) * (scales[1] * self.text_scale)
        return by_behaviour, by_text

    def queries(self, states: torch.Tensor, wish: torch.Tensor) -> torch.Tensor:
        """float32 [P, D + H]; its products with `item_keys` are the logits of `score`, but for one constant a row."""
        return torch.cat(self._queries(states, wish), -1)

    def item_keys(self) -> torch.Tensor:
        """float32 [N, D + H], what `queries` are compared with."""
        return torch.cat([self.item_features[:, self.semantic_width :], self.item_text], -1)

    def score_places(self, batch: ScoredBatch) -> torch.Tensor:
        """Logits float32 [P, N] of the scored places of a batch, before any item is forbidden."""
        states = self.read(batch.slots)
        wish = self.wish(batch.slots, states)[batch.rows] * batch.is_masked_place.unsqueeze(-1)
        return self.score(states[batch.rows, batch.columns], wish)

    def forward(self, batch: ScoredBatch) -> torch.Tensor:
        """Losses of the scored places.

        Masked places are scored over the items that do not stand elsewhere in the sequence (the target is always among
        them), copied places over the whole catalogue.

        Returns:
            float32 [P], cross-entropy in nats.
        """
        logits = forbid(
            self.score_places(batch), torch.where(batch.is_masked_place.unsqueeze(-1), batch.taken, -1), batch.targets
        )
        return F.cross_entropy(logits, batch.targets, reduction="none")


def forbid(logits: torch.Tensor, taken: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Logits [P, N] with -inf at the item codes `taken` [P, L] (-1 is none), except at `kept` [P]."""
    is_taken = torch.zeros_like(logits, dtype=torch.bool)
    rows, columns = (taken >= 0).nonzero(as_tuple=True)
    is_taken[rows, taken[rows, columns]] = True
    is_taken[torch.arange(len(kept), device=kept.device), kept] = False
    return logits.masked_fill(is_taken, float("-inf"))


def load_language_model(folder: Path, num_layers: int | None, dtype: str) -> tuple[Any, Any]:
    """A causal language model cut to its first layers, and its tokenizer. Only local files, no remote code.

    Raises:
        ConfigError: the folder has no model, no weights or no tokenizer, or fewer layers than asked for.
    """
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"There is no language model in {folder}: it has no config.json. Set finetune_constructor.model_path to a folder "
            "written by save_pretrained."
        )
    if not weight_files(folder):
        raise ConfigError(
            f"The language model in {folder} has no weights (*.safetensors). Convert or download it completely, then try again."
        )
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    num_layers = num_layers or config.num_hidden_layers
    if num_layers > config.num_hidden_layers:
        raise ConfigError(
            f"finetune_constructor.num_layers is {num_layers}, but the model in {folder} has {config.num_hidden_layers} "
            "layers. Ask for at most so many."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"The language model in {folder} has no tokenizer ({error}). Save it into that folder.") from None
    # The whole model, then its first layers: loading less makes transformers report the rest as unexpected weights.
    whole: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), local_files_only=True)
    whole.base_model.layers = whole.base_model.layers[:num_layers]
    whole.config.num_hidden_layers = num_layers
    watch(whole.base_model)
    return whole, tokenizer


def _lora_targets(trunk: nn.Module, targets: Sequence[str] | str) -> list[str] | str:
    """What peft is told. It accepts names of which only some are found; one that is not is a mistake."""
    if isinstance(targets, str):
        return targets
    layers = {name.rsplit(".", 1)[-1] for name, layer in trunk.named_modules() if isinstance(layer, nn.Linear)}
    if not targets or not layers.issuperset(targets):
        raise ConfigError(
            f"finetune_constructor.lora_targets is {list(targets)}, but the linear layers of the language model are named "
            f"{', '.join(sorted(layers))}. Choose among them, or all-linear."
        )
    return list(targets)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, sorted by name."""
    return sorted(folder.glob("*.safetensors"))


@torch.no_grad()
def _text_vectors(embedding: nn.Embedding, tokenizer: TokenIds, items: ItemFeatures) -> torch.Tensor:
    """Mean token embedding of title and attributes, float32 [N, H]. Half the weight is the attributes', where there are
    any: a long title must not drown the words that feedback is made of."""
    texts = [clean_text(title, MAX_TITLE_CHARACTERS) for title in items.titles]
    titles = _mean_embeddings(embedding, [token_ids(tokenizer, text) for text in texts])
    # The space before makes the tokens those of the word inside a sentence, as in an utterance.
    words = [" " + ", ".join(attribute_words(attribute) for attribute in attributes) for attributes in items.attributes]
    attributes = _mean_embeddings(embedding, [token_ids(tokenizer, text) if text.strip() else [] for text in words])
    has_both = (titles.abs().sum(1, keepdim=True) > 0) & (attributes.abs().sum(1, keepdim=True) > 0)
    return torch.where(has_both, 0.5, 1.0) * (titles + attributes)


def _attribute_tokens(embedding: nn.Embedding, tokenizer: TokenIds, items: ItemFeatures) -> torch.Tensor:
    """bool [size of the vocabulary], True for tokens of attributes that items share; all True in a catalogue without any.

    An attribute of a single item leads to no other, and whatever is written there would be heard in everybody's words.
    """
    num_items_with = Counter(name for attributes in items.attributes for name in set(map(attribute_words, attributes)) - {""})
    names = {name for name, num_items in num_items_with.items() if num_items > 1}
    is_attribute = torch.full((embedding.num_embeddings,), not num_items_with.total(), device=embedding.weight.device)
    for name in sorted(names):
        # A word at the start of an utterance has other tokens than one after a space.
        for text in (name, " " + name):
            is_attribute[token_ids(tokenizer, text)] = True
    return is_attribute


def _mean_embeddings(embedding: nn.Embedding, token_lists: Sequence[list[int]]) -> torch.Tensor:
    """Mean of each list's embeddings, float32 [len(token_lists), H]; zero for an empty list."""
    table = embedding.weight
    tokens = torch.tensor([token for tokens in token_lists for token in tokens], dtype=torch.int64, device=table.device)
    lengths = torch.tensor([len(tokens) for tokens in token_lists], dtype=torch.int64)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)[:-1]]).to(table.device)
    return F.embedding_bag(tokens, table, offsets, mode="mean").float()


def _inverse_rms(vectors: torch.Tensor) -> torch.Tensor:
    """One over the root mean square of all elements, a float32 scalar; 1 for vectors that are all zero."""
    mean_square = vectors.square().mean()
    return torch.where(mean_square > 0, mean_square.clamp(min=1e-20).rsqrt(), 1.0)
