#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""sgemm.py - multiplies two matrices on an accelerator, and checks the product

    PYTHONPATH=python tools/examples/sgemm.py [N]

A VineTalk program in Python. Without `make install` it also wants VINE_LIBRARY=, the path
of libvine.so. Where the work goes is configured: see vine_talk(3).
"""

import random
import struct
import sys

import vine


def main(n: int) -> None:
    with vine.Talk() as talk:
        accels = talk.accelerators()
        if not accels:
            sys.exit("sgemm.py: there is no accelerator")
        with talk.procedure("sgemm") as sgemm, \
             talk.data(struct.pack("<IIIff", n, n, n, 1, 0)) as args, \
             talk.data(4 * n * n) as a, talk.data(4 * n * n) as b, talk.data(4 * n * n) as c:
            # Written into the accelerator's memory. Small whole numbers: nothing is rounded.
            left, right = a.view.cast("f"), b.view.cast("f")
            for i in range(n * n):
                left[i], right[i] = random.randint(-9, 9), random.randint(-9, 9)

            with accels[0].issue(sgemm, [a, b], [c], args) as task:
                task.wait()
                stats = task.stats

            product = c.view.cast("f")
            for row in range(n):
                for column in range(n):
                    expected = sum(left[row * n + i] * right[i * n + column] for i in range(n))
                    if product[row * n + column] != expected:
                        sys.exit(f"sgemm.py: element {row},{column} is wrong")
            print(f"{n} x {n}: right, after {(stats.end_ns - stats.start_ns) / 1e6:.3f} ms on "
                  f"{accels[0].location.name}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
