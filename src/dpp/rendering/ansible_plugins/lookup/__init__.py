"""Lookups that name what they would return."""
