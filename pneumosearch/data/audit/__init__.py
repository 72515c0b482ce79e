"""What is wrong with a data folder: odd files, duplicates, leaks, shift between the splits.

The command line and the report come in; nothing that trains does.
"""
