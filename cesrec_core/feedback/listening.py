"""Opens what reads utterances: rules alone, or rules beside a sentence model and the head fitted on its vectors."""

from pathlib import Path

from cesrec_core.config import EmbedItemsSection, UnderstandFeedbackSection
from cesrec_core.extractor.identity import extractor_id
from cesrec_core.feedback.speech_acts import Head, head_id
from cesrec_core.feedback.understanding import Listener, RuleListener, model_id
from cesrec_core.feedback.vocabulary import CatalogueVocabulary
from cesrec_core.language_models import locate_model

# Sentences are short, and what stands behind so many tokens of one changes little.
_MAX_TOKENS = 64


def check_sentence_model(section: UnderstandFeedbackSection) -> None:
    """Refuse a model that could not be loaded.

    Raises:
        ConfigError: understand_feedback.model_path names no usable model.
    """
    if section.model_path:
        locate_model(section.model_path, section.revision, "understand_feedback.model_path")


def listener_id(section: UnderstandFeedbackSection, vocabulary: CatalogueVocabulary) -> str:
    """Everything that the reading depends on besides the words: rules, catalogue, sentence model, and head.

    Raises:
        ConfigError: understand_feedback.model_path names no usable model.
    """
    if not section.model_path:
        return model_id(vocabulary)
    # Here too, or a worker that lacks the model would be told of embed_items.
    check_sentence_model(section)
    nearest = "" if section.min_synonym_similarity is None else f"-near{section.min_synonym_similarity:g}"
    return model_id(vocabulary, f"{_sentences_id(section)}{nearest}")


def open_listener(
    section: UnderstandFeedbackSection, vocabulary: CatalogueVocabulary, device: str, cache: Path | None = None
) -> Listener | RuleListener:
    """A reader of utterances; `cache` is a folder that keeps the fitted head, which takes seconds to fit."""
    if not section.model_path:
        return RuleListener(vocabulary, section.max_utterance_characters)
    check_sentence_model(section)
    from cesrec_core.extractor.transformer import Extractor

    extractor = Extractor(_extractor_section(section), device)
    file = None if cache is None else cache / f"speech_acts-{_sentences_id(section)}.npz"
    if file is not None and file.exists():
        head = Head.load(file)
    else:
        head = Head.fit(extractor.embed)
        if file is not None:
            head.save(file)
    return Listener(vocabulary, extractor.embed, head, section.max_utterance_characters, section.min_synonym_similarity)


def _extractor_section(section: UnderstandFeedbackSection) -> EmbedItemsSection:
    return EmbedItemsSection(model_path=section.model_path, revision=section.revision, max_tokens=_MAX_TOKENS)


def _sentences_id(section: UnderstandFeedbackSection) -> str:
    return f"{extractor_id(_extractor_section(section))}-{head_id()}"
