"""The command line: one module per command with its flags; `app` has the one error boundary."""

from memcli.cli.app import app, main

__all__ = ["app", "main"]
