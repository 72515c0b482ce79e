"""From a `TrialConfig` to the five-block network: layers, optimiser, compiled steps, batch normalisation, Grad-CAM.

Trainings and what uses kept networks come in. Nothing here knows Optuna.
"""
