"""The figures of the published study, drawn from the data and a trained network.

The command line imports it.
"""
