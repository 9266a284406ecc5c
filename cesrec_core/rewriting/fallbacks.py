"""Why a round of feedback keeps a history as it is: values of `pseudo_sequences.fallback_reason`, besides those of
`feedback.clarity`."""

# Nothing could be done, or needed to be.
NOTHING_MASKED = "nothing_masked"
SAME_WORDS = "same_words"
# What a Constructor answered could not be used.
INVALID_REWRITE = "invalid_rewrite"
DRIFT = "drift"
NOT_A_CANDIDATE = "not_a_candidate"
WRONG_NUMBER_OF_TITLES = "wrong_number_of_titles"
TRUNCATED_ANSWER = "truncated_answer"
# An endpoint did not answer.
BUDGET_EXHAUSTED = "budget_exhausted"
ENDPOINT_FAILED = "endpoint_failed"
ENDPOINT_REFUSED = "endpoint_refused"
