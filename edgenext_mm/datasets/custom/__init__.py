"""Data in the layout of ``tools/import_data.py``: what configs are derived from."""
