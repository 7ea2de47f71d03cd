"""Predicted against measured: real runs, and what was predicted of them from another one.

A folder of its own, since it takes minutes and prints a table: it is no figure of `make bench`.
"""
