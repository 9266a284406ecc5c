"""The stages of the nightly job: each reads, computes and writes one output."""
