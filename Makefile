# SPDX-License-Identifier: GPL-2.0-only
#
# vine: what people call. `make help` lists it.
#
# Everything is built below build/; kernels and build roots are cached outside of
# the tree (tools/vm/kernel).

KERNEL ?= 6.1
B := $(CURDIR)/build

export V

.PHONY: help
help:
	@sed -n 's/^#: //p' $(firstword $(MAKEFILE_LIST))

#: make demo [INPUT=file]   two VMs do real work through /dev/vine0; see README.md
#: make check               all tests: models, units, driver in guests (= make test)
#: make check-debug         the guest tests on a kernel with KASAN, lockdep, kmemleak...
#: make models              the Spin models alone
#: make unit                the native unit tests alone
#: make mutants             patches that each break the code, and the test that sees it
#:
#: make module [KDIR=...]   vine.ko, for the running kernel or the KDIR given
#: make modules_install     install it, so that `modprobe vine` works
#: make lib tools           libvine; vine-server and the demo's programs
#: make install             libvine and tools: DESTDIR=, PREFIX=/usr/local
#: make lint                checkpatch, sparse, W=1
#: make clean

# ---- the module ----

# For KDIR, built in a copy, so that several kernels do not meet in one tree.
KDIR ?= /lib/modules/$(shell uname -r)/build
MODULE_DIR ?= $(B)/module

.PHONY: module
module:
	@test -e $(KDIR)/Makefile || { echo "vine: no kernel build tree at $(KDIR): install your kernel's headers, or give KDIR=" >&2; exit 1; }
	@mkdir -p $(MODULE_DIR)
	@rsync -a --delete-excluded --include='/driver/***' --include='/uapi/***' \
		--include=/Kbuild --filter='protect *.o' --filter='protect .*' \
		--filter='protect *.ko' --filter='protect *.mod*' --filter='protect modules.order' \
		--filter='protect Module.symvers' --exclude='*' ./ $(MODULE_DIR)/
	+$(MAKE) -C $(KDIR) M=$(MODULE_DIR) $(if $(W),W=$(W)) $(if $(C),C=$(C)) modules

.PHONY: modules_install
modules_install: module
	+$(MAKE) -C $(KDIR) M=$(MODULE_DIR) modules_install
	$(if $(INSTALL_MOD_PATH),,depmod -a)
