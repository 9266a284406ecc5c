"""From vectors and words to lists: the parts of a score, exact top-k, rules, and why an item stands where it does."""
