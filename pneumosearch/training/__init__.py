"""One training, epoch by epoch, that can stop and go on at any of them.

The search and confirmations come in. Nothing here knows Optuna.
"""
