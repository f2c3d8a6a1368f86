"""The files that a bank keeps once, one file each, and their table; where a bank's files are."""
