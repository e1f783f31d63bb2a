"""How Ansible tells of a check run."""
