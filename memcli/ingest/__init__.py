"""The ingest use case: from transcripts to committed batches.

inputs (files, cursors, batches) -> identify (new messages, redacted and filtered) -> windows -> resolve (dedup) ->
commit. `run` drives them.
"""
