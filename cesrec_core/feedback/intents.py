"""What people do when they answer a recommender. An utterance may do several of these."""

from collections.abc import Iterable

ACCEPT = "accept"
REJECT = "reject"
SEEN = "seen"
CRITIQUE_FEATURE = "critique_feature"
CRITIQUE_ADD = "critique_add"
CRITIQUE_COMPARE = "critique_compare"
PREFERENCE = "preference"
INQUIRY = "inquiry"
OTHER = "other"

INTENTS = (ACCEPT, REJECT, SEEN, CRITIQUE_FEATURE, CRITIQUE_ADD, CRITIQUE_COMPARE, PREFERENCE, INQUIRY, OTHER)
CRITIQUES = frozenset((CRITIQUE_FEATURE, CRITIQUE_ADD, CRITIQUE_COMPARE))
ACTIONABLE = CRITIQUES | {REJECT}


def is_actionable(intents: Iterable[str]) -> bool:
    """Whether the next recommendations should be others because of what was said."""
    return not ACTIONABLE.isdisjoint(intents)
