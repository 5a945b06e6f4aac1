"""`memcli profiles` as flags."""

from __future__ import annotations

from memcli.cli.options import ConfigOption, JsonOption, QuietOption, VerboseOption
from memcli.cli.options import settings as load_settings


def profiles(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Show the profiles side by side, and what each should bring.

    Example: memcli profiles
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands.profiles import described  # noqa: PLC0415 - as above

    settings, _ = load_settings(config, {})
    if as_json:
        render.print_json([described(each) for each in settings.profiles.values()])
    else:
        render.show_profiles(list(settings.profiles.values()), settings.profile)
