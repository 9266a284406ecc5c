"""CESRec: a nightly batch job that rewrites histories by what people say, and recommends from the rewritten histories."""

__version__ = "0.2.0"
