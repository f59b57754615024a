# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# The version of all of vine, for the module, libvine, the tools and DKMS.
VINE_VERSION := 0.1.0
