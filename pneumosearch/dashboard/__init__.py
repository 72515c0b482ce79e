"""optuna-dashboard over the store, with notes; who may see it, and what it does not do to a study.

The command line comes in.
"""
