"""Hyperparameter search whose winner can be believed, around a published chest X-ray network."""

__version__ = "0.1.0"
