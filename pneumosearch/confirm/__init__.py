"""The confirmation of a search: fresh seeds, the one access to the test images, the verdict.

The command line comes in. Only this room reads the sealed test folder after a search.
"""
