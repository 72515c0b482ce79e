"""What is wrong with a data folder: odd files, duplicates, leaks, shift between the splits.

The command line and the report use it; nothing that trains does.
"""
