"""Finds, downloads and reads checkpoint files, and recognises their formats."""
