"""The zoo: an index of banks to share, in a folder, behind https or on the Hugging Face Hub (docs/zoo.md)."""
