"""A cluster's objects: applied, compared, waited for, pruned, and in words why one is not ready.

`objects` names and compares them, `api` asks the API server about one at a time, `ready` and `reasons` judge what it
answers, and `cluster` puts them together.
"""

from dpp.adapters.kubernetes.cluster import Cluster
from dpp.adapters.kubernetes.objects import Difference, Key, Manifest

__all__ = ["Cluster", "Difference", "Key", "Manifest"]
