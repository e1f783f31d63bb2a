"""Fluxes, centroids and shapes of sources."""

from __future__ import annotations

import math

import numpy as np

from workloads.pixels.kernels import helper, kernel


@helper
def _taps(shift, taps):
    """Eight weights that evaluate a sampled function at ``shift`` (within -0.5 to 0.5) from its samples -3 to 4 (or -4 to 3)."""
    total = np.float32(0.0)
    for k in range(8):
        distance = (k - 4) - shift if shift < 0 else (k - 3) - shift
        if abs(distance) < 1e-6:
            weight = 1.0
        elif abs(distance) >= 4.0:
            weight = 0.0
        else:
            a = math.pi * distance
            weight = 4.0 * math.sin(a) * math.sin(a / 4.0) / (a * a)
        taps[k] = weight
        total += taps[k]
    for k in range(8):
        taps[k] /= total


@helper
def _shift(stamp, dx, dy, scratch, taps, result):
    """Move the content of a stamp by ``(dx, dy)``, each within -0.5 to 0.5 pixels."""
    size = stamp.shape[0]
    _taps(-dx, taps)
    start = -4 if -dx < 0 else -3
    for y in range(size):
        for x in range(size):
            total = np.float32(0.0)
            for k in range(8):
                u = x + start + k
                if 0 <= u < size:
                    total += taps[k] * stamp[y, u]
            scratch[y, x] = total
    _taps(-dy, taps)
    start = -4 if -dy < 0 else -3
    for y in range(size):
        for x in range(size):
            result[y, x] = np.float32(0.0)
        for k in range(8):
            v = y + start + k
            if 0 <= v < size:
                for x in range(size):
                    result[y, x] += taps[k] * scratch[v, x]


@helper
def _model(coefficients, x, y, width, height, stamp):
    """PSF at a position: polynomial in coordinates scaled to -1 to 1."""
    terms, size, _ = coefficients.shape
    u, v = np.float32(2.0 * x / width - 1.0), np.float32(2.0 * y / height - 1.0)
    weights = (np.float32(1.0), u, v, u * u, u * v, v * v)
    for j in range(size):
        for i in range(size):
            stamp[j, i] = coefficients[0, j, i]
    for k in range(1, terms):
        w = weights[k]
        for j in range(size):
            for i in range(size):
                stamp[j, i] += w * coefficients[k, j, i]


@kernel("void(f4[:,:,::1], f8, f8, f8[::1], f8[::1], f4[:,:,::1])")
def psf_stamps(coefficients, width, height, x, y, stamps):
    """PSF at each position, its centre at the pixel phase of the position (the stamp's middle pixel is the nearest)."""
    size = coefficients.shape[1]
    stamp, scratch, taps = (
        np.empty((size, size), np.float32),
        np.empty((size, size), np.float32),
        np.empty(8, np.float32),
    )
    for i in range(x.size):
        _model(coefficients, x[i], y[i], width, height, stamp)
        _shift(
            stamp,
            np.float32(x[i] - math.floor(x[i] + 0.5)),
            np.float32(y[i] - math.floor(y[i] + 0.5)),
            scratch,
            taps,
            stamps[i],
        )


@kernel("void(f4[:,:,::1], f4[::1], f4[::1], f4[:,:,::1])")
def shift_stamps(stamps, dx, dy, result):
    """Move each stamp's content by its own shift (pixels, within half a pixel)."""
    size = stamps.shape[1]
    scratch, taps = np.empty((size, size), np.float32), np.empty(8, np.float32)
    for i in range(stamps.shape[0]):
        _shift(stamps[i], dx[i], dy[i], scratch, taps, result[i])


@kernel(
    "void(f4[:,::1], f4[:,::1], u2[:,::1], u2, f4[:,:,::1], f8, f8, f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1])"
)
def psf_fluxes(pixels, variance, mask, unusable, coefficients, width, height, x, y, flux, error, chi2, covered):
    """PSF flux at fixed positions, its error, reduced chi squared, and the fraction of the PSF on usable pixels.

    The sum is weighted by the PSF alone: weights by a variance that contains the source's own noise would bias it.
    """
    rows, columns = pixels.shape
    size = coefficients.shape[1]
    half = size // 2
    stamp, model, scratch = (
        np.empty((size, size), np.float32),
        np.empty((size, size), np.float32),
        np.empty((size, size), np.float32),
    )
    taps = np.empty(8, np.float32)
    for i in range(x.size):
        cx, cy = math.floor(x[i] + 0.5), math.floor(y[i] + 0.5)
        _model(coefficients, x[i], y[i], width, height, stamp)
        _shift(stamp, np.float32(x[i] - cx), np.float32(y[i] - cy), scratch, taps, model)
        left, bottom = int(cx) - half, int(cy) - half
        signal, norm, noise, inside = 0.0, 0.0, 0.0, 0.0
        for j in range(max(0, -bottom), min(size, rows - bottom)):
            for k in range(max(0, -left), min(size, columns - left)):
                if mask[bottom + j, left + k] & unusable == 0:
                    p = model[j, k]
                    signal += p * pixels[bottom + j, left + k]
                    norm += p * p
                    noise += p * p * variance[bottom + j, left + k]
                    inside += p
        covered[i] = inside
        if norm <= 0.0:
            flux[i], error[i], chi2[i] = np.nan, np.nan, np.nan
            continue
        flux[i] = signal / norm
        error[i] = math.sqrt(noise) / norm
        total, used = 0.0, 0
        reach = min(half, 5)
        for j in range(max(half - reach, -bottom), min(half + reach + 1, rows - bottom)):
            for k in range(max(half - reach, -left), min(half + reach + 1, columns - left)):
                if mask[bottom + j, left + k] & unusable == 0:
                    residual = pixels[bottom + j, left + k] - flux[i] * model[j, k]
                    total += residual * residual / max(variance[bottom + j, left + k], np.float32(1e-6))
                    used += 1
        chi2[i] = total / max(used - 1, 1)


@kernel("void(f4[:,::1], u2[:,::1], u2, f8, i8, f8[::1], f8[::1], f8[:,::1], u1[::1])")
def windowed_centroids(pixels, mask, unusable, sigma, iterations, x, y, moments, bad):
    """Move positions to the centroid in a Gaussian window and measure second moments in it (window deconvolved later).

    ``bad`` is 1 where the iteration ran away; the position stays what it was.
    """
    rows, columns = pixels.shape
    reach = int(math.ceil(4.0 * sigma))
    for i in range(x.size):
        cx, cy = x[i], y[i]
        bad[i] = 0
        for step in range(iterations + 1):
            total, sx, sy, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            x0, y0 = int(math.floor(cx + 0.5)), int(math.floor(cy + 0.5))
            for v in range(max(y0 - reach, 0), min(y0 + reach + 1, rows)):
                for u in range(max(x0 - reach, 0), min(x0 + reach + 1, columns)):
                    if mask[v, u] & unusable:
                        continue
                    dx, dy = u - cx, v - cy
                    weight = math.exp(-(dx * dx + dy * dy) / (2.0 * sigma * sigma)) * pixels[v, u]
                    total += weight
                    sx += weight * dx
                    sy += weight * dy
                    xx += weight * dx * dx
                    yy += weight * dy * dy
                    xy += weight * dx * dy
            if total == 0.0:
                bad[i] = 1
                break
            if step == iterations:
                moments[i, 0], moments[i, 1], moments[i, 2] = xx / total, yy / total, xy / total
                break
            mx, my = 2.0 * sx / total, 2.0 * sy / total
            if not (abs(mx) < 2.0 * sigma and abs(my) < 2.0 * sigma):
                bad[i] = 1
                break
            cx, cy = cx + mx, cy + my
            if math.hypot(cx - x[i], cy - y[i]) > 3.0 * sigma:
                bad[i] = 1
                break
            if mx * mx + my * my < 4e-8:
                moments[i, 0], moments[i, 1], moments[i, 2] = xx / total, yy / total, xy / total
                break
        if bad[i]:
            moments[i, 0], moments[i, 1], moments[i, 2] = np.nan, np.nan, np.nan
        else:
            x[i], y[i] = cx, cy


@kernel("void(f4[:,::1], f4[:,::1], u2[:,::1], u2, f8, f8[::1], f8[::1], f8[::1], f8[::1], i8[::1])")
def aperture_fluxes(pixels, variance, mask, unusable, radius, x, y, flux, error, planes):
    """Sum in a circle; pixels on its rim count by the part inside, found on a 5 x 5 grid. ``planes`` collects mask bits."""
    rows, columns = pixels.shape
    for i in range(x.size):
        total, noise, bits = 0.0, 0.0, 0
        for v in range(max(int(y[i] - radius), 0), min(int(y[i] + radius) + 2, rows)):
            for u in range(max(int(x[i] - radius), 0), min(int(x[i] + radius) + 2, columns)):
                dx, dy = u - x[i], v - y[i]
                distance = math.hypot(dx, dy)
                if distance > radius + 0.7072:
                    continue
                part = 1.0
                if distance > radius - 0.7072:
                    inside = 0
                    for b in range(5):
                        for a in range(5):
                            if (dx - 0.4 + 0.2 * a) ** 2 + (dy - 0.4 + 0.2 * b) ** 2 < radius * radius:
                                inside += 1
                    part = inside / 25.0
                if part > 0.0:
                    bits |= np.int64(mask[v, u])
                    if mask[v, u] & unusable == 0:
                        total += part * pixels[v, u]
                        noise += part * variance[v, u]
        flux[i], error[i], planes[i] = total, math.sqrt(noise), bits
