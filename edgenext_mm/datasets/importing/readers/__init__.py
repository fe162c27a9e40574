"""Readers of annotation formats; each module describes its format."""
