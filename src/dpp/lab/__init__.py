"""The one-machine environment: tools, images, machines, links."""
