"""Drawing: Moffat stars, satellite and particle tracks, bleed trails."""

from __future__ import annotations

import math

import numpy as np

from workloads.pixels.kernels import kernel


@kernel("void(f4[:,::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8, f8)")
def add_moffats(scene, x, y, flux, fwhm, e1, e2, beta, floor):
    """Add Moffat profiles, each out to where it falls below ``floor`` electrons per pixel."""
    rows, columns = scene.shape
    for i in range(x.size):
        alpha2 = (fwhm[i] / 2.0) ** 2 / (2.0 ** (1.0 / beta) - 1.0)
        norm = flux[i] * (beta - 1.0) / (math.pi * alpha2)
        reach = math.sqrt(alpha2) * (max(abs(norm) / floor, 1.0) ** (0.5 / beta)) + 3.0 * fwhm[i]
        reach = min(reach, 400.0)
        shape = 1.0 / (1.0 - e1[i] * e1[i] - e2[i] * e2[i])
        y0, y1 = max(int(y[i] - reach), 0), min(int(y[i] + reach) + 2, rows)
        x0, x1 = max(int(x[i] - reach), 0), min(int(x[i] + reach) + 2, columns)
        for row in range(y0, y1):
            v = row - y[i]
            for column in range(x0, x1):
                u = column - x[i]
                r2 = (
                    ((1.0 - e1[i]) ** 2 + e2[i] ** 2) * u * u
                    + ((1.0 + e1[i]) ** 2 + e2[i] ** 2) * v * v
                    - 4.0 * e2[i] * u * v
                )
                scene[row, column] += norm * (1.0 + r2 * shape / alpha2) ** -beta


@kernel("void(f4[:,::1], f4[:,:,::1], i8[::1], i8[::1])")
def add_stamps(scene, stamps, left, bottom):
    """Add square stamps with their first pixel at ``(left, bottom)``, cut at the edges."""
    rows, columns = scene.shape
    size = stamps.shape[1]
    for i in range(stamps.shape[0]):
        for row in range(max(bottom[i], 0), min(bottom[i] + size, rows)):
            for column in range(max(left[i], 0), min(left[i] + size, columns)):
                scene[row, column] += stamps[i, row - bottom[i], column - left[i]]


@kernel("void(f4[:,::1], u1[:,::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1])")
def add_tracks(scene, touched, x, y, dx, dy, charge):
    """Add straight particle tracks: charge (electrons) spread evenly along the way, undiffused as in thin silicon."""
    rows, columns = scene.shape
    for i in range(x.size):
        steps = max(int(4.0 * math.hypot(dx[i], dy[i])), 1)
        for k in range(steps):
            t = (k + 0.5) / steps
            column, row = int(math.floor(x[i] + t * dx[i] + 0.5)), int(math.floor(y[i] + t * dy[i] + 0.5))
            if 0 <= row < rows and 0 <= column < columns:
                scene[row, column] += charge[i] / steps
                touched[row, column] = 1


@kernel("void(f4[:,::1], f8, f8, f8, f8, f8)")
def add_streak(scene, x0, y0, angle, width, brightness):
    """Add a satellite: a line through ``(x0, y0)`` with a Gaussian profile (``width`` sigma, peak in electrons)."""
    rows, columns = scene.shape
    normal_x, normal_y = -math.sin(angle), math.cos(angle)
    for row in range(rows):
        for column in range(columns):
            distance = (column - x0) * normal_x + (row - y0) * normal_y
            if abs(distance) < 5.0 * width:
                scene[row, column] += brightness * math.exp(-0.5 * (distance / width) ** 2)


@kernel("i8(f4[:,::1], i8, f8)")
def bleed(scene, boundary, full_well):
    """Spill charge above the full well along columns, both ways, within each half of the detector."""
    rows, columns = scene.shape
    trails = 0
    for column in range(columns):
        for row in range(rows):
            excess = scene[row, column] - full_well
            if excess <= 0.0:
                continue
            trails += 1
            scene[row, column] = full_well
            low, high = (0, boundary) if row < boundary else (boundary, rows)
            for sign in (-1, 1):
                share, position = excess / 2.0, row + sign
                while share > 0.0 and low <= position < high:
                    room = full_well - scene[position, column]
                    if room > 0.0:
                        moved = min(room, share)
                        scene[position, column] += moved
                        share -= moved
                    position += sign
    return trails


@kernel("void(f4[:,::1], f4[:,::1])", fast=True)
def add_shot_noise(scene, normal):
    """Turn expected electrons into counted ones; where few are expected the Gaussian is cut at zero."""
    rows, columns = scene.shape
    for row in range(rows):
        for column in range(columns):
            expected = max(scene[row, column], np.float32(0.0))
            scene[row, column] = max(expected + math.sqrt(expected) * normal[row, column], np.float32(0.0))
