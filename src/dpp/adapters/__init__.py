"""One module per outside thing: podman, secrets, devices, clusters, stores."""
