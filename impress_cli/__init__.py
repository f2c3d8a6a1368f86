"""The command line: a command parses, calls the library, renders."""

__version__ = "0.1.0"
