"""Data: folders, splits, pixels, batches."""
