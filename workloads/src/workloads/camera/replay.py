"""Replays real exposures from a folder of FITS files."""

from __future__ import annotations


class ReplaySky:
    def __init__(self, folder, settings, seed):
        raise NotImplementedError
