"""One plain function per subcommand: (configuration, options) -> report. Nothing here knows of a command line."""
