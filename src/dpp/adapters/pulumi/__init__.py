"""The vendor's deployment engine: its command on stacks in a folder, and the host that runs our programs for it.

Nothing is imported here: the host of programs needs none of the rest.
"""
