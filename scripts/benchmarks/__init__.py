"""Benchmarks of pneumosearch, one module each."""
