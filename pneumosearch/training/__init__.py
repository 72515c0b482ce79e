"""One training, epoch by epoch, that can stop and resume after each epoch.

The search and the confirmation import it. Nothing here imports Optuna.
"""
