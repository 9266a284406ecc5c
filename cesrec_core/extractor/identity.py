"""Which extractor it is: where its model lies, and the name of all that an embedding depends on besides the text.

Apart from the extractor, since plans ask for its name, and what the extractor imports takes seconds.
"""

import hashlib
import json

from cesrec_core.config import EmbedItemsSection
from cesrec_core.language_models import ModelSource, locate_model

# Raised when the text that is embedded, or how it is read, changes in a way that the settings below do not show.
EXTRACTOR_VERSION = 2
# Of sentence-transformers; lengths, which the last one changes, are the Adapter's business.
READ_MODULES = ("Transformer", "Pooling", "Normalize")
_SWITCH = "pooling_mode_"


def locate_extractor(section: EmbedItemsSection) -> ModelSource:
    """The extractor's model on this machine; see `locate_model` for what is refused."""
    return locate_model(section.model_path, section.revision, "embed_items.model_path")


def trained_pooling(source: ModelSource) -> str | None:
    """The pooling that a model was trained with, where sentence-transformers has written it beside it: `embed_items.pooling`,
    or its own name of one that there is not here (`cls_token`)."""
    try:
        modes = json.loads((source.folder / "1_Pooling" / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(modes, dict):
        return None
    named = modes.get("pooling_mode") or []
    chosen = [named] if isinstance(named, str) else [mode for mode in named if isinstance(mode, str)]
    # Earlier versions wrote one switch for each.
    switches = {mode.removeprefix(_SWITCH): is_on for mode, is_on in modes.items() if mode.startswith(_SWITCH)}
    chosen += [mode for mode, is_on in switches.items() if is_on is True]
    # What a sum is divided by moves no direction, and an Adapter learns lengths.
    of_config = {"mean_tokens": "mean", "mean_sqrt_len_tokens": "mean", "lasttoken": "last", "weightedmean_tokens": "weighted"}
    of_config |= {name.removesuffix("_tokens"): pooling for name, pooling in of_config.items()}
    return of_config.get(chosen[0], chosen[0]) if len(chosen) == 1 else None


def unread_modules(source: ModelSource) -> list[str]:
    """What sentence-transformers does to a model's vectors and this project does not, such as `Dense`, by its own names."""
    try:
        modules = json.loads((source.folder / "modules.json").read_bytes())
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    except (OSError, ValueError, TypeError, LookupError):
        return []
    return [kind for kind in kinds if kind not in READ_MODULES]


def extractor_id(section: EmbedItemsSection) -> str:
    """Name of everything that an embedding depends on besides the text.

    Raises:
        ConfigError: embed_items.model_path names no usable model.
    """
    source = locate_extractor(section)
    settings: dict[str, str | int] = {
        "pooling": section.pooling,
        "max_tokens": section.max_tokens,
        "dtype": section.dtype,
        "version": EXTRACTOR_VERSION,
    }
    # Named only where there is one, so that caches from before there was such a setting stay valid.
    if section.instruction:
        settings["instruction"] = section.instruction
    if section.engine != "transformers":
        settings["engine"] = section.engine
    digest = hashlib.sha256(json.dumps([source.identity(), settings], sort_keys=True).encode()).hexdigest()[:8]
    return f"{source.name}-{section.pooling}-{section.dtype}-{digest}"
