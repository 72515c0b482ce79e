"""optuna-dashboard over the store, with notes, and who may see it.

The command line comes in.
"""
