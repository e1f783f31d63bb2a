"""Prompt processing: warm workers that turn a raw detector into alerts, nothing twice and nothing dropped."""
