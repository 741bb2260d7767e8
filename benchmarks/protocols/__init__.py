"""Frozen protocols, one YAML per task; a new version is a new file."""
