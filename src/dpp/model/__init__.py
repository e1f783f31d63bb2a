"""Typed, validated view of what exists (`inventories/`) and what is offered (`services/`)."""
