"""Variables plugins, by the names that Ansible calls them."""
