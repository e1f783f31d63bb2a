"""What sites are made from: tools, the base image of all machines, the images of platform and workloads."""
