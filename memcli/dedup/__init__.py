"""Deduplication: exact similarity search (`scan`) and the evidence that decides what a similar pair is (`gates`)."""
