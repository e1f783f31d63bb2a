"""Rice coding of image rows, as FITS tile compression defines it, and FITS checksums."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import helper, kernel

BLOCK = 32


@helper
def _flush(buffer, at, bits, count):
    """Write whole bytes, highest first; the rest stays."""
    while count >= 8:
        count -= 8
        buffer[at] = np.uint8((bits >> np.uint64(count)) & np.uint64(0xFF))
        at += 1
    return at, count


@kernel("void(i4[:,::1], i8, i8, i8, u1[::1], i8[::1])", fast=False)
def rice_encode(tiles, width, first, last, buffer, lengths):
    """Encode rows ``first`` to ``last`` one after another from the buffer's start; ``width`` is bytes per pixel, 2 or 4."""
    columns = tiles.shape[1]
    sample_bits = 8 * width
    code_bits, code_max = (4, 14) if width == 2 else (5, 25)
    wrap = np.uint64(0xFFFF) if width == 2 else np.uint64(0xFFFFFFFF)
    differences = np.empty(BLOCK, np.uint64)
    at = 0
    for row in range(first, last):
        start = at
        bits, count = np.uint64(np.int64(tiles[row, 0])) & wrap, sample_bits
        at, count = _flush(buffer, at, bits, count)
        previous = np.int64(tiles[row, 0])
        for begin in range(0, columns, BLOCK):
            size = min(BLOCK, columns - begin)
            total = np.float64(0.0)
            for k in range(size):
                value = np.int64(tiles[row, begin + k])
                # Differences wrap round at the sample's width, as the decoder's sums do.
                change = (value - previous) << np.int64(64 - sample_bits) >> np.int64(64 - sample_bits)
                folded = np.uint64((change << np.int64(1)) ^ (change >> np.int64(63)))
                differences[k] = folded & wrap
                total += np.float64(differences[k])
                previous = value
            mean = (total - (size // 2) - 1.0) / size
            level = np.int64(mean) >> 1 if mean > 0 else 0
            split = 0
            while level > 0:
                level >>= 1
                split += 1
            if split >= code_max:
                bits = (bits << np.uint64(code_bits)) | np.uint64(code_max + 1)
                at, count = _flush(buffer, at, bits, count + code_bits)
                for k in range(size):
                    bits = (bits << np.uint64(sample_bits)) | differences[k]
                    at, count = _flush(buffer, at, bits, count + sample_bits)
            elif split == 0 and total == 0.0:
                bits = bits << np.uint64(code_bits)
                at, count = _flush(buffer, at, bits, count + code_bits)
            else:
                bits = (bits << np.uint64(code_bits)) | np.uint64(split + 1)
                count += code_bits
                low = (np.uint64(1) << np.uint64(split)) - np.uint64(1)
                for k in range(size):
                    zeros = np.int64(differences[k] >> np.uint64(split))
                    while zeros > 24:
                        at, count = _flush(buffer, at, bits, count)
                        bits <<= np.uint64(24)
                        count += 24
                        zeros -= 24
                    if count + zeros + 1 + split > 56:
                        at, count = _flush(buffer, at, bits, count)
                    bits = (
                        (bits << np.uint64(zeros + 1 + split))
                        | (np.uint64(1) << np.uint64(split))
                        | (differences[k] & low)
                    )
                    count += zeros + 1 + split
                at, count = _flush(buffer, at, bits, count)
        if count > 0:
            buffer[at] = np.uint8((bits << np.uint64(8 - count)) & np.uint64(0xFF))
            at += 1
        lengths[row] = at - start


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


@kernel("u8(u1[::1], i8, i8)", fast=False)
def word_sum(data, first, last):
    """Sum of the big-endian 32-bit words of bytes ``first`` to ``last`` (multiples of 4), in ones' complement."""
    total = np.uint64(0)
    for i in range(first, last, 4):
        total += (
            (np.uint64(data[i]) << np.uint64(24))
            | (np.uint64(data[i + 1]) << np.uint64(16))
            | (np.uint64(data[i + 2]) << np.uint64(8))
            | np.uint64(data[i + 3])
        )
    while total >> np.uint64(32):
        total = (total & np.uint64(0xFFFFFFFF)) + (total >> np.uint64(32))
    return total
