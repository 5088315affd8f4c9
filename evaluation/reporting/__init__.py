"""Metrics, bootstrap intervals and reports."""
