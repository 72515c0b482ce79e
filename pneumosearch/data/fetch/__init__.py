"""Bringing the published images to this machine."""
