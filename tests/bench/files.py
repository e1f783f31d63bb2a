"""Writing a raw detector: Rice, checksums, digest, durable, under its name only when whole."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from astropy.io import fits
from tests.bench.harness import Verdict, compare, versions
from tests.bench.inputs import detector

from workloads.pixels import fits_io


def _durable(path: Path) -> str:
    """Do what `fits_io.store` does beside writing: digest, fsync, rename."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    final = path.with_suffix(".done")
    path.rename(final)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return digest


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Compare with astropy and fitsio."""
    raw = detector(1024 if quick else 4096).exposure.raw
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def ours() -> Path:
            fits_io.write(
                folder / "ours.fits",
                {"OBSID": "x"},
                [fits_io.Extension(f"C{i:02}", frame) for i, frame in enumerate(raw)],
                threads,
            )
            return folder / "ours.fits"

        def astropy() -> Path:
            path = folder / "astropy.fits"
            tile = (1, raw.shape[2])
            hdus = [
                fits.CompImageHDU(frame, name=f"C{i:02}", compression_type="RICE_1", tile_shape=tile)
                for i, frame in enumerate(raw)
            ]
            fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, checksum=True, overwrite=True)
            _durable(path)
            return folder / "astropy.done"

        def cfitsio() -> Path:
            path = folder / "fitsio.fits"
            with fitsio.FITS(path, "rw", clobber=True) as out:
                for i, frame in enumerate(raw):
                    out.write(frame, extname=f"C{i:02}", compress="RICE", tile_dims=[1, raw.shape[2]])
                    out[-1].write_checksum()
            _durable(path)
            return folder / "fitsio.done"

        def equal(a: Path, b: Path) -> dict[str, Any]:
            first = 1
            for i, frame in enumerate(raw):
                assert (fitsio.read(a, ext=first + i) == frame).all()
                assert (np.asarray(fits.getdata(b, extname=f"C{i:02}".upper())) == frame).all()
            size = a.stat().st_size / b.stat().st_size
            assert size < 1.01, f"{size:.3f} of the peer's size"
            return {"size_ratio": size, "MB": raw.nbytes / 1e6, **versions("astropy", "fitsio")}

        pairs = 5 if quick else 9
        return [
            compare("files", peer, ours, side, 4.0, equal=equal, pairs=pairs)
            for peer, side in {"astropy": astropy, "fitsio": cfitsio}.items()
        ]
