"""The resource provider `dpp`: machines, links, routers, convergences, images and manifests as Pulumi resources."""
