"""The night's report: an independent consumer, digests read back from every store, and what they add up to."""
