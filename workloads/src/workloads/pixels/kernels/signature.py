"""Instrument signature removal in one pass over the memory."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import kernel


@kernel(
    "void(u2[:,::1], i8, i8, f4[::1], f4[:,::1], f4[:,::1], f4[:,::1], u2[:,::1], f4[::1], i8[::1], f4[:,::1], f4[:,::1], u2[:,::1], u2[::1])"
)
def calibrate_rows(
    raw, first, last, pedestal, bias, dark, response, defects, electronics, geometry, pixels, variance, mask, peak
):
    """Calibrate rows ``first`` to ``last`` of one amplifier into the detector's planes.

    ``electronics`` is gain, noise in the dark squared, saturation (ADU), quadratic linearity term, exposure time, relative variance
    of the flat; ``geometry`` is x0, y0, flip_x, flip_y, prescan, width, height; ``dark`` is in electrons per second (one element if there is none); ``response`` is
    1 / flat; ``peak`` receives the highest raw count of each row.
    """
    gain, noise2, saturation, curve = electronics[0], electronics[1], electronics[2], electronics[3]
    x0, y0, prescan, width, height = geometry[0], geometry[1], geometry[4], geometry[5], geometry[6]
    seconds, flat_noise2 = electronics[4], electronics[5]
    has_dark = dark.shape[0] > 1
    for row in range(first, last):
        y = y0 + (height - 1 - row if geometry[3] else row)
        level = pedestal[row]
        counts_in = raw[row, prescan : prescan + width]
        b, r, d = bias[y, x0 : x0 + width], response[y, x0 : x0 + width], defects[y, x0 : x0 + width]
        p, v, m = pixels[y, x0 : x0 + width], variance[y, x0 : x0 + width], mask[y, x0 : x0 + width]
        highest = np.uint16(0)
        # Short loops over one row, which stays in the nearest cache: each of them the compiler can vectorise.
        for i in range(width):
            highest = max(highest, counts_in[i])
        if geometry[2]:
            for i in range(width):
                p[i] = np.float32(counts_in[width - 1 - i])
        else:
            for i in range(width):
                p[i] = np.float32(counts_in[i])
        for i in range(width):
            m[i] = d[i]
        if highest >= saturation:
            for i in range(width):
                if p[i] >= saturation:
                    m[i] |= np.uint16(2)
        for i in range(width):
            counts = p[i] - level - b[i]
            electrons = gain * (counts + curve * counts * counts)
            p[i] = electrons * r[i]
            v[i] = (max(electrons, np.float32(0.0)) + noise2 + flat_noise2 * electrons * electrons) * r[i] * r[i]
        if has_dark:
            dark_row = dark[y, x0 : x0 + width]
            for i in range(width):
                p[i] -= seconds * dark_row[i] * r[i]
        peak[row] = highest


@kernel(
    "void(u2[:,:,::1], i8, i8, f4[:,::1], u2[:,::1], f4[::1], f4[:,::1], i8[:,::1], f4[::1], f4[:,::1], f4[:,::1], u2[:,::1])"
)
def subtract_crosstalk(raw, first, last, pedestal, peak, threshold, fractions, geometry, gains, response, pixels, mask):
    """Take the ghosts of bright pixels out of all other amplifiers, for readout rows ``first`` to ``last``.

    ``fractions[victim, aggressor]`` of the aggressor's counts above its ``threshold`` were added to the victim. Rows of
    different bands end in different rows of the detector, so bands may run at once.
    """
    amplifiers = raw.shape[0]
    chunk = 32
    for aggressor in range(amplifiers):
        prescan, width, height = geometry[aggressor, 4], geometry[aggressor, 5], geometry[aggressor, 6]
        for row in range(first, last):
            level = pedestal[aggressor, row]
            limit = level + threshold[aggressor]
            if peak[aggressor, row] < limit:
                continue
            line = raw[aggressor, row, prescan : prescan + width]
            for begin in range(0, width, chunk):
                stop = min(begin + chunk, width)
                highest = np.uint16(0)
                for column in range(begin, stop):
                    highest = max(highest, line[column])
                if highest < limit:
                    continue
                for column in range(begin, stop):
                    if line[column] < limit:
                        continue
                    counts = line[column] - level
                    for victim in range(amplifiers):
                        fraction = fractions[victim, aggressor]
                        if fraction == 0.0:
                            continue
                        x = geometry[victim, 0] + (width - 1 - column if geometry[victim, 2] else column)
                        y = geometry[victim, 1] + (height - 1 - row if geometry[victim, 3] else row)
                        pixels[y, x] -= fraction * counts * gains[victim] * response[y, x]
                        mask[y, x] |= np.uint16(512)


@kernel("void(u2[:,::1], u2[::1], f4, i8[::1], u2[:,::1])")
def spread_saturation(raw, peak, saturation, geometry, mask):
    """Mark the eight neighbours of saturated pixels: charge has leaked into them."""
    rows, columns = mask.shape
    x0, y0, prescan, width, height = geometry[0], geometry[1], geometry[4], geometry[5], geometry[6]
    for row in range(raw.shape[0]):
        if peak[row] < saturation:
            continue
        y = y0 + (height - 1 - row if geometry[3] else row)
        for column in range(width):
            if raw[row, prescan + column] >= saturation:
                x = x0 + (width - 1 - column if geometry[2] else column)
                for v in range(max(y - 1, 0), min(y + 2, rows)):
                    for u in range(max(x - 1, 0), min(x + 2, columns)):
                        mask[v, u] |= np.uint16(2)


@kernel("void(u2[:,::1], i8, f4[::1])")
def overscan_rows(raw, first, level):
    """Mean of each row's overscan from column ``first`` on, values off by four deviations left out (three rounds)."""
    rows, columns = raw.shape
    for row in range(rows):
        line = raw[row, first:]
        low, high = np.float32(0.0), np.float32(65536.0)
        mean = np.float32(0.0)
        for _ in range(3):
            origin = np.float32(line[0])
            total, square, used = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for i in range(columns - first):
                value = np.float32(line[i])
                inside = np.float32(1.0) if low <= value <= high else np.float32(0.0)
                total += inside * (value - origin)
                square += inside * (value - origin) * (value - origin)
                used += inside
            if used < 1:
                break
            mean = origin + total / used
            spread = max(
                np.sqrt(max(square / used - (total / used) * (total / used), np.float32(0.0))), np.float32(1.0)
            )
            low, high = mean - np.float32(4.0) * spread, mean + np.float32(4.0) * spread
        level[row] = mean


@kernel("void(u2[:,::1], i8, i8, i8, u2, u2, u2[:,::1])")
def grow_plane(mask, first, last, radius, source, target, grown):
    """Set ``target`` in a square of ``radius`` around every pixel of ``mask`` with ``source``, rows ``first`` to ``last``."""
    rows, columns = mask.shape
    for row in range(first, last):
        for column in range(columns):
            if mask[row, column] & source:
                for y in range(max(row - radius, 0), min(row + radius + 1, rows)):
                    for x in range(max(column - radius, 0), min(column + radius + 1, columns)):
                        grown[y, x] |= target
