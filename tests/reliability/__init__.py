"""Promises of docs/reliability.md, kept by force."""
