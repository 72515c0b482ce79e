"""The command line: parses arguments, calls the library, turns errors into one line and an exit code."""

from pneumosearch.cli.app import main

__all__ = ["main"]
