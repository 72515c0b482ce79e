"""The five-block network of a `TrialConfig`: layers, optimiser, compiled steps, batch normalisation, Grad-CAM.

The training loop, inference and the rooms above import it. Nothing here imports Optuna.
"""
