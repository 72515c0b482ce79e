"""Kept networks at work on images: prediction and export.

Confirmations and the command line use it. Nothing here imports Optuna.
"""
