"""memcli: chat transcripts to a deduplicated, searchable long-term memory in one SQLite file."""

import os

__version__ = "0.1.0"

__all__ = ["__version__"]

# From 1.29 on onnxruntime's Linux builds note each session and model in the user's cache folder and send that to
# Microsoft, unless this is set before they are loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
