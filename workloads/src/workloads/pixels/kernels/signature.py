"""Instrument signature removal in one pass over the memory."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import kernel


@kernel(
    "void(u2[:,::1], i8, i8, f4[::1], f4[:,::1], f4[:,::1], f4[:,::1], u2[:,::1], f4[::1], i8[::1], f4[:,::1], f4[:,::1], u2[:,::1], u2[::1])"
)
def calibrate_rows(
    raw, first, last, pedestal, bias, dark, response, defects, electronics, geometry, pixels, variance, mask, peak
):  # type: ignore[no-untyped-def]
    """Calibrate rows ``first`` to ``last`` of one amplifier into the detector's planes.

    ``electronics`` is gain, squared read noise, saturation (ADU), quadratic linearity term; ``geometry`` is x0, y0,
    flip_x, flip_y, prescan, width, height; ``dark`` is in electrons (one element if there is none); ``response`` is
    1 / flat; ``peak`` receives the highest raw count of each row.
    """
    gain, noise2, saturation, curve = electronics[0], electronics[1], electronics[2], electronics[3]
    x0, y0, prescan, width, height = geometry[0], geometry[1], geometry[4], geometry[5], geometry[6]
    has_dark = dark.shape[0] > 1
    for row in range(first, last):
        y = y0 + (height - 1 - row if geometry[3] else row)
        level = pedestal[row]
        counts_in = raw[row, prescan : prescan + width]
        b, r, d = bias[y, x0 : x0 + width], response[y, x0 : x0 + width], defects[y, x0 : x0 + width]
        p, v, m = pixels[y, x0 : x0 + width], variance[y, x0 : x0 + width], mask[y, x0 : x0 + width]
        highest = np.uint16(0)
        if geometry[2]:
            for i in range(width):
                p[width - 1 - i] = np.float32(counts_in[i])
        else:
            for i in range(width):
                p[i] = np.float32(counts_in[i])
        for i in range(width):
            value = p[i]
            full = value >= saturation
            highest = max(highest, np.uint16(value))
            counts = value - level - b[i]
            electrons = gain * (counts + curve * counts * counts)
            shot = max(electrons, np.float32(0.0)) + noise2
            if has_dark:
                electrons -= dark[y, x0 + i]
            p[i] = electrons * r[i]
            v[i] = shot * r[i] * r[i]
            m[i] = d[i] | (np.uint16(2) if full else np.uint16(0))
        peak[row] = highest


@kernel("void(u2[:,::1], i8, f4[::1], u2[::1], f4, f4[::1], i8[:,::1], f4[::1], f4[:,::1], f4[:,::1], u2[:,::1])")
def subtract_crosstalk(raw, aggressor, pedestal, peak, threshold, fractions, geometry, gains, response, pixels, mask):  # type: ignore[no-untyped-def]
    """Take the ghosts of one amplifier's bright pixels out of all others (``fractions`` of its counts, per victim)."""
    for row in range(raw.shape[0]):
        if peak[row] - pedestal[row] < threshold:
            continue
        prescan, width, height = geometry[aggressor, 4], geometry[aggressor, 5], geometry[aggressor, 6]
        for column in range(width):
            counts = raw[row, prescan + column] - pedestal[row]
            if counts < threshold:
                continue
            for victim in range(fractions.size):
                if fractions[victim] == 0.0:
                    continue
                x = geometry[victim, 0] + (width - 1 - column if geometry[victim, 2] else column)
                y = geometry[victim, 1] + (height - 1 - row if geometry[victim, 3] else row)
                pixels[y, x] -= fractions[victim] * counts * gains[victim] * response[y, x]
                mask[y, x] |= np.uint16(512)


@kernel("void(u2[:,::1], i8, f4[::1])")
def overscan_rows(raw, first, level):  # type: ignore[no-untyped-def]
    """Clipped mean of each row's overscan, from column ``first`` on: the median decides what is an outlier."""
    rows, columns = raw.shape
    count = columns - first
    values = np.empty(count, np.float32)
    for row in range(rows):
        for i in range(count):
            values[i] = raw[row, first + i]
        ordered = np.sort(values)
        middle = ordered[count // 2]
        spread = max((ordered[(3 * count) // 4] - ordered[count // 4]) * np.float32(0.7413), np.float32(1.0))
        total, used = np.float32(0.0), 0
        for i in range(count):
            if abs(values[i] - middle) < 4.0 * spread:
                total += values[i]
                used += 1
        level[row] = total / used


@kernel("void(u2[:,::1], i8, i8, i8, u2, u2, u2[:,::1])")
def grow_plane(mask, first, last, radius, source, target, grown):  # type: ignore[no-untyped-def]
    """Set ``target`` in a square of ``radius`` around every pixel of ``mask`` with ``source``, rows ``first`` to ``last``."""
    rows, columns = mask.shape
    for row in range(first, last):
        for column in range(columns):
            if mask[row, column] & source:
                for y in range(max(row - radius, 0), min(row + radius + 1, rows)):
                    for x in range(max(column - radius, 0), min(column + radius + 1, columns)):
                        grown[y, x] |= target
