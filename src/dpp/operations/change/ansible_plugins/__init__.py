"""Plugins by which Ansible tells a review what it would do."""
