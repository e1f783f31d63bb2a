"""Paired benchmarks: ours against the best known, interleaved, equal output first."""
