"""Trials in processes of their own: on this machine, or on a Ray cluster.

The command line comes in.
"""
