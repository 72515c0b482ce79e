"""Small helpers that know nothing of trainings: atomic files, templates, cores and memory, processes.

Any room may come in; nothing here imports one.
"""
