"""The two spellings of one name: kebab-case towards DNS, Kubernetes and stacks, snake_case towards Ansible and Python."""

from __future__ import annotations


def snake(name: str) -> str:
    """Return `name` as Ansible and Python spell it: ``summit-storage`` becomes ``summit_storage``."""
    return name.replace("-", "_")


def kebab(name: str) -> str:
    """Return `name` as DNS, Kubernetes and Pulumi spell it: ``summit_storage`` becomes ``summit-storage``."""
    return name.replace("_", "-")
