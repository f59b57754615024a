/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * blur.h - what the demo's blur is: each colour becomes the mean of those around it, weighted by
 *          a Gauss curve in both directions; beyond the picture its edge goes on
 */
#ifndef DEMO_BLUR_H
#define DEMO_BLUR_H

#define BLUR_RADIUS	6	/* pixels to each side */
#define BLUR_SIGMA	3.0

#endif
