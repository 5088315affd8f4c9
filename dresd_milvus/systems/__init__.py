"""Drafters by name with all that they need, and answering a prompt."""
