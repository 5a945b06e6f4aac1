"""`memcli formats` as flags."""

from __future__ import annotations

from memcli.cli.options import JsonOption, QuietOption, VerboseOption


def formats(
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """List the transcript formats and where their files lie.

    Example: memcli formats
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.readers import FORMATS  # noqa: PLC0415 - as above: ijson

    if as_json:
        render.print_json(
            [
                {"name": each.name, "agent": each.agent, "where": each.where, "suffixes": list(each.suffixes)}
                for each in FORMATS
            ]
        )
    else:
        render.show_formats(FORMATS)
