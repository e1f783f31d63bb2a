"""Plugins that playbooks load from the operators' tool."""
