"""The store: Optuna storages by URL, artifacts, locks, retries, the gRPC server and its client.

The search and whatever reads results come in. Nothing here imports TensorFlow.
"""
