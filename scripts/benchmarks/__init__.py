"""Measurements of pneumosearch, one module each."""
