"""Instrument signature removal in one pass over the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from workloads.pixels.kernels import helper, kernel

_LINE = 64
"""Bytes that the processor fetches at once."""
_CHUNK = 64
"""Columns that are looked through for bright pixels at once."""


@intrinsic
def _fetch(_context: Any, array: Any, _row: Any, _column: Any) -> tuple[Any, Callable[..., Any]]:
    """Ask for the memory of an element that will be read soon."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.bitcast(_element(context, builder, signature.args[0], arguments), cgutils.voidptr_t)
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, word, word, word])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(call, [pointer, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate


@intrinsic
def _stream(_context: Any, target: Any, _row: Any, _column: Any, source: Any) -> tuple[Any, Callable[..., Any]]:
    """Write a row past the caches: what is overwritten is then not read first, which is a third of all traffic.

    The target must begin on 16 bytes; what is beyond the last 16 of the source is left.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = context.make_array(signature.args[3])(context, builder, arguments[3])
        block = ir.VectorType(ir.IntType(8), 16)
        to = builder.bitcast(_element(context, builder, signature.args[0], arguments), block.as_pointer())
        begin = builder.bitcast(line.data, block.as_pointer())
        count = builder.mul(line.nitems, line.itemsize)
        mark = builder.module.add_metadata([ir.IntType(32)(1)])
        with cgutils.for_range(builder, builder.lshr(count, count.type(4))) as loop:
            value = builder.load(builder.gep(begin, [loop.index]), align=1)
            builder.store(value, builder.gep(to, [loop.index]), align=16).set_metadata("nontemporal", mark)
        return context.get_dummy_value()

    return types.void(target, types.intp, types.intp, source), generate


@intrinsic
def _settle(_context: Any) -> tuple[Any, Callable[..., Any]]:
    """Let other threads see what was streamed."""

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


def _element(context: Any, builder: Any, kind: Any, arguments: Any) -> Any:
    """Address of ``array[row, column]``."""
    array = context.make_array(kind)(context, builder, arguments[0])
    columns = cgutils.unpack_tuple(builder, array.shape)[1]
    return builder.gep(array.data, [builder.add(builder.mul(arguments[1], columns), arguments[2])])


@helper
def _store(target, row, first, line):
    """Write a line of values to ``target[row, first:]``."""
    size, width = target.itemsize, line.size
    at = np.int64(target.ctypes.data) + (row * target.shape[1] + first) * size
    head = min((-at % 16) // size, width)
    tail = head + (width - head) * size // 16 * 16 // size
    _stream(target, row, first + head, line[head:])
    for i in range(head):
        target[row, first + i] = line[i]
    for i in range(tail, width):
        target[row, first + i] = line[i]


@helper
def _highest(line, begin, stop):
    """Highest of some counts; unsigned places, for a negative one would count from the end, which is asked for each pixel."""
    highest = np.uint16(0)
    for i in range(np.uint64(begin), np.uint64(stop)):
        highest = max(highest, line[i])
    return highest


@helper
def _find_ghosts(line, peak, level, threshold, fractions, aggressor, excess, ghosts):
    """Add what bright pixels of a row leave in the other amplifiers; returns whether there was any."""
    limit = np.int64(min(np.ceil(level + threshold), np.float32(65536.0)))
    if peak < limit:
        return False
    for begin in range(0, line.size, _CHUNK):
        stop = min(begin + _CHUNK, line.size)
        if _highest(line, begin, stop) < limit:
            continue
        excess[:] = np.float32(0.0)
        for i in range(stop - begin):
            count = np.int64(line[begin + i])
            excess[i] = np.float32(count) - level if count >= limit else np.float32(0.0)
        for victim in range(ghosts.shape[0]):
            fraction = fractions[victim, aggressor]
            if fraction != 0:
                # Whole chunks (the buffer ends with one): the processor adds them without counting.
                first = np.uint64(begin)
                for i in range(np.uint64(_CHUNK)):
                    ghosts[victim, first + i] += fraction * excess[i]
    return True


@helper
def _subtract(line, level, ghost, haunted, flip, counts):
    """Take pedestal and ghosts from a row, into the detector's order."""
    width, last = np.uint64(counts.size), np.uint64(counts.size - 1)
    if haunted and flip:
        for i in range(width):
            counts[i] = np.float32(line[last - i]) - level - ghost[last - i]
    elif haunted:
        for i in range(width):
            counts[i] = np.float32(line[i]) - level - ghost[i]
    elif flip:
        for i in range(width):
            counts[i] = np.float32(line[last - i]) - level
    else:
        for i in range(width):
            counts[i] = np.float32(line[i]) - level


@helper
def _calibrate(counts, zero, response, electronics, pixels, variance):
    """Turn counts into electrons and their variance."""
    gain, noise2, curve, flat_noise2 = electronics[0], electronics[1], electronics[2], electronics[3]
    for i in range(counts.size):
        above = counts[i] - zero[i]
        electrons = gain * (above + curve * above * above)
        scale = response[i]
        pixels[i] = electrons * scale
        light = max(electrons, np.float32(0.0))
        variance[i] = (light + noise2 + flat_noise2 * electrons * electrons) * (scale * scale)


@helper
def _mark_ghosts(ghost, haunted, flip, mask):
    """Begin the row's mask: CROSSTALK where a ghost was taken out."""
    width, last = np.uint64(mask.size), np.uint64(mask.size - 1)
    if not haunted:
        for i in range(width):
            mask[i] = np.uint16(0)
    elif flip:
        for i in range(width):
            mask[i] = np.uint16(512) if ghost[last - i] != 0 else np.uint16(0)
    else:
        for i in range(width):
            mask[i] = np.uint16(512) if ghost[i] != 0 else np.uint16(0)


@helper
def _fetch_row(raw, amplifier, row, prescan, zero, response, y, x0, width):
    for x in range(x0, x0 + width, _LINE // 4):
        _fetch(zero, y, x)
        _fetch(response, y, x)
    for x in range(prescan, prescan + width, _LINE // 2):
        _fetch(raw[amplifier], row, x)


@kernel(
    "void(u2[:,:,::1], i8, i8, f4[:,::1], f4[:,::1], f4[:,::1], f4[:,::1], f4[:,::1], i8[:,::1], i8[:,::1],"
    " i8[:,::1], i4[::1], u2[::1], f4[::1], f4[:,::1], f4[:,::1], u2[:,::1], u2[:,::1])"
)
def calibrate_rows(
    raw, first, last, pedestal, zero, response, electronics, fractions, geometry, strips,
    mark_starts, mark_columns, mark_planes, mark_variance, pixels, variance, mask, peak,
):  # fmt: skip
    """Calibrate readout rows ``first`` to ``last`` of all amplifiers into the detector's planes.

    ``electronics`` is, per amplifier, gain, noise in the dark squared, quadratic linearity term, relative variance of the flat
    and the counts from which a pixel leaves ghosts, of which ``fractions[victim, aggressor]`` say how strong. ``geometry``
    is x0, y0, flip_x, flip_y, prescan, width, height; ``strips`` lists amplifiers in the order of the detector's rows, with
    first and last column of the strip that they are read with. Marks are pixels with planes or with more variance than the
    others, ``mark_starts`` their first of each amplifier and row. ``peak`` receives the highest raw count of each row.
    """
    amplifiers, columns = raw.shape[0], pixels.shape[1]
    prescan, width, height = geometry[0, 4], geometry[0, 5], geometry[0, 6]
    counts, excess = np.empty(width, np.float32), np.empty(_CHUNK, np.float32)
    ghosts = np.zeros((amplifiers, width + _CHUNK), np.float32)
    p, v, m = np.empty(columns, np.float32), np.empty(columns, np.float32), np.empty(columns, np.uint16)
    for row in range(first, last):
        haunted = False
        for a in range(amplifiers):
            line = raw[a, row, prescan : prescan + width]
            peak[a, row] = _highest(line, 0, width)
            level, threshold = pedestal[a, row], electronics[a, 4]
            if _find_ghosts(line, peak[a, row], level, threshold, fractions, a, excess, ghosts):
                haunted = True
        for s in range(amplifiers):
            following, next_row = (strips[s + 1, 0], row) if s + 1 < amplifiers else (strips[0, 0], row + 1)
            if next_row < last:
                y = geometry[following, 1] + (height - 1 - next_row if geometry[following, 3] else next_row)
                _fetch_row(raw, following, next_row, prescan, zero, response, y, geometry[following, 0], width)
            a = strips[s, 0]
            x0, flip = geometry[a, 0], geometry[a, 2] != 0
            x1, inside = x0 + width, (height - 1 - row if geometry[a, 3] else row)
            y = geometry[a, 1] + inside
            _subtract(raw[a, row, prescan : prescan + width], pedestal[a, row], ghosts[a], haunted, flip, counts)
            _calibrate(counts, zero[y, x0:x1], response[y, x0:x1], electronics[a], p[x0:x1], v[x0:x1])
            _mark_ghosts(ghosts[a], haunted, flip, m[x0:x1])
            for k in range(mark_starts[a, inside], mark_starts[a, inside + 1]):
                x = mark_columns[k]
                m[x] |= mark_planes[k]
                v[x] += mark_variance[k] * response[y, x] * response[y, x]
            if x1 == strips[s, 2]:
                begin = strips[s, 1]
                _store(pixels, y, begin, p[begin:x1])
                _store(variance, y, begin, v[begin:x1])
                _store(mask, y, begin, m[begin:x1])
        if haunted:
            ghosts[:] = np.float32(0.0)
    _settle()


@kernel("void(u2[:,::1], u2[::1], f4, i8[::1], u2[:,::1])")
def spread_saturation(raw, peak, saturation, geometry, mask):
    """Mark saturated pixels and their eight neighbours: charge has leaked into them."""
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
        origin = np.float32(line[0])
        total, square, used = np.float32(0.0), np.float32(0.0), np.float32(columns - first)
        lowest, highest = line[0], line[0]
        for i in range(columns - first):
            value = np.float32(line[i]) - origin
            total += value
            square += value * value
            lowest, highest = min(lowest, line[i]), max(highest, line[i])
        for _ in range(2):
            mean = total / used
            reach = np.float32(4.0) * max(np.sqrt(max(square / used - mean * mean, np.float32(0.0))), np.float32(1.0))
            low, high = origin + mean - reach, origin + mean + reach
            if low <= lowest and highest <= high:
                break
            total, square, used = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for i in range(columns - first):
                value = np.float32(line[i])
                inside = np.float32(1.0) if low <= value <= high else np.float32(0.0)
                total += inside * (value - origin)
                square += inside * (value - origin) * (value - origin)
                used += inside
        level[row] = origin + total / used


@kernel("void(f4[::1], f8)")
def smooth_rows(level, penalty):
    """Replace levels by the curve of least bending through them (Whittaker's); those off by eight deviations do not count.

    The curve solves ``(W + penalty D'D) z = W level``, with D the second differences: five diagonals, taken apart as LDL'.
    """
    n = level.size
    middle = np.median(level)
    spread = np.float32(1.4826) * np.median(np.abs(level - middle)) + np.float32(1e-3)
    weights = np.empty(n, np.float64)
    for i in range(n):
        weights[i] = 1.0 if abs(level[i] - middle) < np.float32(8.0) * spread else 0.0
    if n < 5 or weights.sum() < 3:
        return
    pivot, one, two = np.empty(n, np.float64), np.zeros(n, np.float64), np.zeros(n, np.float64)
    curve = np.empty(n, np.float64)
    for i in range(n):
        edge = min(i, n - 1 - i)
        pivot[i] = weights[i] + penalty * (1.0 if edge == 0 else 5.0 if edge == 1 else 6.0)
        curve[i] = weights[i] * level[i]
        if i >= 2:
            two[i] = penalty / pivot[i - 2]
            pivot[i] -= two[i] * two[i] * pivot[i - 2]
            curve[i] -= two[i] * curve[i - 2]
        if i >= 1:
            beside = -penalty * (2.0 if i == 1 or i == n - 1 else 4.0)
            one[i] = (beside - (two[i] * pivot[i - 2] * one[i - 1] if i >= 2 else 0.0)) / pivot[i - 1]
            pivot[i] -= one[i] * one[i] * pivot[i - 1]
            curve[i] -= one[i] * curve[i - 1]
    for i in range(n):
        curve[i] /= pivot[i]
    for i in range(n - 2, -1, -1):
        curve[i] -= one[i + 1] * curve[i + 1]
        if i + 2 < n:
            curve[i] -= two[i + 2] * curve[i + 2]
    for i in range(n):
        level[i] = np.float32(curve[i])


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
