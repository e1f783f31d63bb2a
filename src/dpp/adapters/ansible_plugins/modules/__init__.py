"""Modules that run on hosts."""
