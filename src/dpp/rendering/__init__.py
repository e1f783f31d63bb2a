"""What would be deployed, from the model alone: one function each, without engine, secrets or machines.

`clusters.cluster_objects` with `contracts.derived`, `hosts.host_state`, and beside them `dpp.adapters.devices.router_text`, which the routers'
adapter itself needs. Stacks register what these return, nights start it, tests and reviews judge it.
"""
