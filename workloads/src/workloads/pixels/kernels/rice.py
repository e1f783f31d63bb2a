"""Rice coding and quantisation of image rows, as FITS tile compression defines them, and FITS checksums."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import helper, kernel

BLOCK = 32
BLANK = -2147483647
"""What stands for NaN among quantised values."""
_RESERVED = 10
"""Values next to `BLANK` that the convention keeps for itself."""


@helper
def _swap(word):
    """Big-endian bytes of a word."""
    word = np.uint32(word)
    return np.uint32((word >> 24) | ((word >> 8) & 0xFF00) | ((word << 8) & 0xFF0000) | (word << 24))


@helper
def _put(words, at, bits, count, value, size):
    """Append ``size`` (up to 32) bits to the ``count`` (below 32) that wait; whole words are written."""
    bits = (bits << np.uint64(size)) | value
    count += size
    if count >= 32:
        count -= 32
        words[at] = _swap(bits >> np.uint64(count))
        at += 1
    return at, bits, count


@kernel(
    [
        "void(u2[:,::1], u2, i8, i8, u4[::1], u1[::1], i8[::1])",
        "void(u4[:,::1], u4, i8, i8, u4[::1], u1[::1], i8[::1])",
    ],
    fast=False,
)
def rice_encode(tiles, flip, first, last, words, buffer, lengths):
    """Encode rows ``first`` to ``last`` one after another from the buffer's start.

    Samples are 2 or 4 bytes; ``flip`` is XORed to the first of each row (0x8000 for unsigned ones: differences are the
    same). ``words`` is scratch for one row: 2 words per sample and 16 more.
    """
    columns, width = tiles.shape[1], tiles.itemsize
    sample_bits = 8 * width
    code_bits, code_max = (4, 14) if width == 2 else (5, 25)
    shift = np.int32(32 - sample_bits)
    folded = np.empty(columns + BLOCK, np.uint32)
    filled = 0
    for row in range(first, last):
        line = tiles[row]
        folded[0] = 0
        # Unsigned places: a negative one would count from the end, which is asked for each pixel.
        for k in range(np.uint64(1), np.uint64(columns)):
            # Differences wrap round at the sample's width, as the decoder's sums do.
            before = np.int32(line[k - np.uint64(1)])
            change = np.int32(np.int32(np.int32(line[k]) - before) << shift) >> shift
            folded[k] = np.uint32((np.uint32(change) << np.uint32(1)) ^ np.uint32(change >> np.int32(31)))
        at, bits, count = 0, np.uint64(0), 0
        at, bits, count = _put(words, at, bits, count, np.uint64(line[0] ^ flip), sample_bits)
        for begin in range(0, columns, BLOCK):
            size = min(BLOCK, columns - begin)
            total, largest = np.uint64(0), np.uint32(0)
            for k in range(np.uint64(begin), np.uint64(begin + size)):
                total += np.uint64(folded[k])
                largest = max(largest, folded[k])
            mean = (np.float64(total) - (size // 2) - 1.0) / size
            level = np.int64(mean) >> 1 if mean > 0 else 0
            split = 0
            while level > 0:
                level >>= 1
                split += 1
            if split >= code_max:
                at, bits, count = _put(words, at, bits, count, np.uint64(code_max + 1), code_bits)
                for k in range(begin, begin + size):
                    at, bits, count = _put(words, at, bits, count, np.uint64(folded[k]), sample_bits)
            elif split == 0 and total == 0:
                at, bits, count = _put(words, at, bits, count, np.uint64(0), code_bits)
            else:
                at, bits, count = _put(words, at, bits, count, np.uint64(split + 1), code_bits)
                low = np.uint64(split)
                one = np.uint64(1) << low
                if size == BLOCK and (np.uint64(largest) >> low) + low < np.uint64(16):
                    # Two codes fit a word: joined first, they wait for the one before them together.
                    place, waiting, rest = np.uint64(at), np.uint64(count), one - np.uint64(1)
                    for k in range(np.uint64(begin), np.uint64(begin + BLOCK), np.uint64(2)):
                        left, right = np.uint64(folded[k]), np.uint64(folded[k + np.uint64(1)])
                        size_right = (right >> low) + low + np.uint64(1)
                        length = (left >> low) + low + np.uint64(1) + size_right
                        pair = ((one | (left & rest)) << size_right) | one | (right & rest)
                        bits = (bits << length) | pair
                        waiting += length
                        full = waiting >> np.uint64(5)
                        waiting &= np.uint64(31)
                        words[place] = _swap(bits >> waiting)
                        place += full
                    at, count = np.int64(place), np.int64(waiting)
                elif (np.uint64(largest) >> low) + low < np.uint64(32):
                    # Every code fits a word: no branches, a word is stored each time and kept when it is full.
                    place, waiting = np.uint64(at), np.uint64(count)
                    for k in range(begin, begin + size):
                        value = np.uint64(folded[k])
                        length = (value >> low) + low + np.uint64(1)
                        bits = (bits << length) | one | (value & (one - np.uint64(1)))
                        waiting += length
                        full = waiting >> np.uint64(5)
                        waiting &= np.uint64(31)
                        words[place] = _swap(bits >> waiting)
                        place += full
                    at, count = np.int64(place), np.int64(waiting)
                else:
                    for k in range(begin, begin + size):
                        zeros = np.int64(np.uint64(folded[k]) >> low)
                        while zeros + 1 + split > 32:
                            run = min(zeros, 32)
                            at, bits, count = _put(words, at, bits, count, np.uint64(0), run)
                            zeros -= run
                        value = one | (np.uint64(folded[k]) & (one - np.uint64(1)))
                        at, bits, count = _put(words, at, bits, count, value, zeros + 1 + split)
        if count > 0:
            words[at] = _swap(bits << np.uint64(32 - count))
        stored = 4 * at + (count + 7) // 8
        buffer[filled : filled + stored] = words.view(np.uint8)[:stored]
        filled += stored
        lengths[row] = stored


@kernel("i8(u1[::1], i8[::1], i8[::1], i8, i8, i8, i4[:,::1])", fast=False)
def rice_decode(heap, offsets, lengths, width, first, last, tiles):
    """Decode rows ``first`` to ``last``; returns the first row whose code runs out or over, or -1."""
    columns = tiles.shape[1]
    sample_bits = 8 * width
    code_bits, code_max = (4, 14) if width == 2 else (5, 25)
    for row in range(first, last):
        at, end = offsets[row], offsets[row] + lengths[row]
        if lengths[row] < width or at < 0 or end > heap.size:
            return row
        bits, count = np.uint64(0), 0
        for _ in range(width):
            bits = (bits << np.uint64(8)) | np.uint64(heap[at])
            at += 1
        previous = (np.int64(bits) << np.int64(64 - sample_bits)) >> np.int64(64 - sample_bits)
        bits = np.uint64(0)
        for begin in range(0, columns, BLOCK):
            size = min(BLOCK, columns - begin)
            while count < code_bits:
                if at >= end:
                    return row
                bits, count, at = (bits << np.uint64(8)) | np.uint64(heap[at]), count + 8, at + 1
            count -= code_bits
            code = np.int64((bits >> np.uint64(count)) & np.uint64((1 << code_bits) - 1)) - 1
            bits &= (np.uint64(1) << np.uint64(count)) - np.uint64(1)
            for k in range(size):
                folded = np.uint64(0)
                if code >= 0:
                    zeros, wanted = np.int64(0), code if code < code_max else sample_bits
                    if code < code_max:
                        while bits == 0:
                            zeros += count
                            if at >= end:
                                return row
                            bits, count, at = np.uint64(heap[at]), 8, at + 1
                        while (bits >> np.uint64(count - 1)) & np.uint64(1) == 0:
                            zeros += 1
                            count -= 1
                        count -= 1
                        bits &= (np.uint64(1) << np.uint64(count)) - np.uint64(1)
                    while count < wanted:
                        if at >= end:
                            return row
                        bits, count, at = (bits << np.uint64(8)) | np.uint64(heap[at]), count + 8, at + 1
                    count -= wanted
                    folded = (np.uint64(zeros) << np.uint64(code if code < code_max else 0)) | (
                        bits >> np.uint64(count)
                    )
                    bits &= (np.uint64(1) << np.uint64(count)) - np.uint64(1)
                change = np.int64(folded >> np.uint64(1)) ^ -np.int64(folded & np.uint64(1))
                previous = ((previous + change) << np.int64(64 - sample_bits)) >> np.int64(64 - sample_bits)
                tiles[row, begin + k] = np.int32(previous)
    return -1


@kernel("u8(u4[::1])", fast=False)
def word_sum(words):
    """Sum of big-endian 32-bit words in ones' complement."""
    total = np.uint64(0)
    for i in range(words.size):
        total += np.uint64(_swap(words[i]))
    while total >> np.uint64(32):
        total = (total & np.uint64(0xFFFFFFFF)) + (total >> np.uint64(32))
    return total


@helper
def _row_noise(line, work):
    """Estimate the standard deviation of a row's noise by its differences, the sky's slope left out; 0 if too few are known."""
    count = 0
    for i in range(2, line.size - 2):
        change = abs(2.0 * line[i] - line[i - 2] - line[i + 2])
        if not np.isnan(change):
            work[count] = change
            count += 1
    return 0.6052697 * np.median(work[:count]) if count else 0.0


@kernel("void(f4[:,::1], f8, i8, f4[::1], i4[:,::1], f8[::1], f8[::1])", fast=False)
def quantize_rows(data, levels, seed, dither, steps, scale, zero):
    """Express each row in steps of its noise over ``levels``; row ``n`` takes its dither from place ``n + seed``."""
    rows, columns = data.shape
    work = np.empty(columns, np.float64)
    for row in range(rows):
        line = data[row]
        low, high, known = np.float64(np.inf), np.float64(-np.inf), 0
        for i in range(columns):
            if not np.isnan(line[i]):
                low, high, known = min(low, np.float64(line[i])), max(high, np.float64(line[i])), known + 1
        if known == 0:
            low, high = 0.0, 0.0
        step = max(_row_noise(line, work) / levels, max(abs(low), abs(high)) * 2.0**-24)
        if step == 0.0:
            # A row of zeros stays one: its dither is finer than any float32.
            step = 2.0**-200
        # With blanks all values lie close to theirs: the differences that are coded stay small.
        base = 0 if known == columns else BLANK + _RESERVED
        scale[row], zero[row] = step, low - step * base
        start = (row + seed) % dither.size
        at = np.int64(dither[start] * np.float32(500.0))
        for i in range(columns):
            if not np.isnan(line[i]):
                value = (np.float64(line[i]) - low) / step + np.float64(dither[at]) - 0.5
                steps[row, i] = np.int32(np.int64(np.floor(value + 0.5)) + base)
            else:
                steps[row, i] = np.int32(BLANK)
            at += 1
            if at == dither.size:
                start = (start + 1) % dither.size
                at = np.int64(dither[start] * np.float32(500.0))


@kernel("void(i4[:,::1], f8[::1], f8[::1], i8, f4[::1], f4[:,::1])", fast=False)
def dequantize_rows(steps, scale, zero, seed, dither, data):
    """Undo `quantize_rows`."""
    rows, columns = steps.shape
    for row in range(rows):
        start = (row + seed) % dither.size
        at = np.int64(dither[start] * np.float32(500.0))
        for i in range(columns):
            if steps[row, i] == BLANK:
                data[row, i] = np.float32(np.nan)
            else:
                value = (np.float64(steps[row, i]) - np.float64(dither[at]) + 0.5) * scale[row] + zero[row]
                data[row, i] = np.float32(value)
            at += 1
            if at == dither.size:
                start = (start + 1) % dither.size
                at = np.int64(dither[start] * np.float32(500.0))
