"""Why a history is kept, in the words of the page of a run."""

from cesrec_core.feedback.clarity import CONFLICTING_FEEDBACK, OFF_TOPIC_FEEDBACK, VAGUE_FEEDBACK
from cesrec_core.rewriting import fallbacks
from cesrec_core.stages.report_contents import FALLBACKS


def test_every_reason_is_explained_on_the_page() -> None:
    reasons = {value for name, value in vars(fallbacks).items() if name.isupper()}
    assert {"nothing_masked", "endpoint_refused"} < reasons
    assert FALLBACKS.keys() == reasons | {VAGUE_FEEDBACK, CONFLICTING_FEEDBACK, OFF_TOPIC_FEEDBACK}
    assert all(FALLBACKS.values())
