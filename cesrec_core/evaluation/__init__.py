"""Ranks of held-out items, what they are worth, and for whom: of variants of the method, and of single recommenders."""
