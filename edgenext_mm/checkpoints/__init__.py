"""Checkpoint files: downloaded, read safely, recognised, fitted to a model."""
