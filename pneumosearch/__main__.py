"""`python -m pneumosearch`."""

from pneumosearch.cli import main

if __name__ == "__main__":
    main()
