"""The command line: a command parses, calls the library, renders."""

from impress_format import __version__ as __version__
