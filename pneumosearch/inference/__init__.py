"""Kept networks at work on images: prediction and export.

Confirmations and the command line come in. Nothing here knows Optuna.
"""
