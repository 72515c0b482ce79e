"""A study in people's own tools: its trials as runs of TensorBoard and of MLflow, which follow the store.

The command that trains sends what happens here. Threads beside it write, so that no training waits for a tool.
"""
