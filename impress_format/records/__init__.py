"""The frozen records of a bank, as they are written to disk, by kind (docs/format.md).

Decoding is strict: an unknown field, a missing field, a wrong type or a value out of its range is an error, so that a
record that decodes is a record that this release understands whole. The record of a file that a bank keeps once stands
in that file's module.
"""
