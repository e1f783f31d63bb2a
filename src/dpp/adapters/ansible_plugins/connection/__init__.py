"""Ways by which playbooks reach hosts."""
