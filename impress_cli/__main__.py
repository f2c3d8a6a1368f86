"""`python -m impress_cli`."""

from impress_cli.app import main

if __name__ == "__main__":
    main()
