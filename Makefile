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

#: make demo [INPUT=file] [PICTURE=file.png] [APPLIANCE=host]
#:                          two VMs do real work through /dev/vine0; see README.md
#: make demo-opencl [PICTURE=file.png]
#:                          a VM has this machine's OpenCL device (PoCL) run a kernel
#: make check               all tests: models, units, driver in guests (= make test)
#: make check-debug         the guest tests on a kernel with KASAN, lockdep, kmemleak...
#: make models              the Spin models alone
#: make unit                the native unit tests alone
#: make fuzz MINUTES=n [JOBS=n]
#:                          libFuzzer (clang) on the core, with a hostile segment
#: make coverage            gcov and lcov of libvine, the core and the tools of the host
#: make bench [BENCH=options]
#:                          what it costs, beside others, into build/bench.json; see
#:                          Documentation/bench.md, and BENCH=--help
#: make mutants             patches that each break the code, and the test that sees it
#:
#: make module [KDIR=...]   vine.ko, for the running kernel or the KDIR given
#: make modules_install     install it, so that `modprobe vine` works
#: make dkms-install        have DKMS build it for each kernel; dkms-remove undoes that
#: make all [BUILD_TESTS=1] libvine and the tools; with the tests of the host, not run
#: make lib tools           libvine; vine-server, vinectl, vine-appliance and its plugins
#: make examples            the examples of tools/examples
#: make install             libvine, vine.py and tools: DESTDIR=, PREFIX=/usr/local, PYTHONDIR=
#: make lint                checkpatch, sparse, W=1
#: make clean
#:
#: Options, see Documentation/build.md: TRACE=0|1 DEBUG=0|1 COVERAGE=0|1
#: WAIT=spin|sleep|adaptive BACKEND=device|local|null

# ---- the module ----

# For KDIR, built in a copy, so that several kernels do not meet in one tree.
KDIR ?= /lib/modules/$(shell uname -r)/build
MODULE_DIR ?= $(B)/module

.PHONY: module
module:
	@test -e $(KDIR)/Makefile || { echo "vine: no kernel build tree at $(KDIR): install your kernel's headers, or give KDIR=" >&2; exit 1; }
	@mkdir -p $(MODULE_DIR)
	@tar -cf - Kbuild driver uapi | tar -xf - -C $(MODULE_DIR)
	+$(MAKE) -C $(KDIR) M=$(MODULE_DIR) $(if $(W),W=$(W)) $(if $(C),C=$(C)) modules

.PHONY: modules_install
modules_install: module
	+$(MAKE) -C $(KDIR) M=$(MODULE_DIR) modules_install
	$(if $(INSTALL_MOD_PATH),,depmod -a)

include driver/version.mk

# With DESTDIR, for packages, the source is put in place and nothing more.
DKMS_SOURCE = $(DESTDIR)/usr/src/vine-$(VINE_VERSION)
dkms_there = dkms status vine/$(VINE_VERSION) | grep -q .

.PHONY: dkms-install dkms-remove
dkms-install:
	$(if $(DESTDIR),,@command -v dkms >/dev/null || { echo "vine: dkms is not installed: apt install dkms, and your kernel's headers" >&2; exit 1; })
	$(if $(DESTDIR),,@! $(dkms_there) || dkms remove vine/$(VINE_VERSION) --all)
	rm -rf $(DKMS_SOURCE)
	install -d $(DKMS_SOURCE)
	cp -r Kbuild driver uapi LICENSES $(DKMS_SOURCE)/
	sed 's/#MODULE_VERSION#/$(VINE_VERSION)/' dkms.conf >$(DKMS_SOURCE)/dkms.conf
	$(if $(DESTDIR),,dkms install vine/$(VINE_VERSION))

dkms-remove:
	$(if $(DESTDIR),,@! $(dkms_there) || dkms remove vine/$(VINE_VERSION) --all)
	rm -rf $(DKMS_SOURCE)

# ---- user space ----

.PHONY: lib tools examples install
lib:
	+$(MAKE) -s -C lib O=$(B)/lib

tools: lib
	+$(MAKE) -s -C tools/vine-server O=$(B)
	+$(MAKE) -s -C tools/vinectl O=$(B) LIB=$(B)/lib
	+$(MAKE) -s -C tools/vine-appliance O=$(B) LIB=$(B)/lib

examples: lib
	+$(MAKE) -s -C tools/examples O=$(B)/examples

# The tests of the host. `make check` builds them itself.
BUILD_TESTS := 0
.PHONY: all tests
all: lib tools $(if $(filter 1,$(BUILD_TESTS)),tests)

tests: tools
	+$(MAKE) -s -C selftests/unit O=$(B)/unit
	+$(MAKE) -s -C selftests/server O=$(B)
	+$(MAKE) -s -C selftests/vinectl O=$(B)
	+$(MAKE) -s -C selftests/talk O=$(B)/talk
	+$(MAKE) -s -C selftests/host O=$(B)/host

install: lib tools install-man
	+$(MAKE) -s -C lib O=$(B)/lib install
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(B)/vine-server $(B)/vinectl $(B)/vine-appliance $(DESTDIR)$(PREFIX)/bin/
	+$(MAKE) -s -C tools/vine-appliance O=$(B) LIB=$(B)/lib install
	install -d $(DESTDIR)$(PYTHONDIR)
	install -m 644 python/vine.py $(DESTDIR)$(PYTHONDIR)/

# A page is also found by the names that it lists as links.
.PHONY: install-man
install-man:
	@set -e; for p in Documentation/man/*.[1-9]; do \
		s=$${p##*.}; page=$${p##*/}; to=$(DESTDIR)$(MANDIR)/man; \
		install -D -m 644 $$p $$to$$s/$$page; \
		for l in $$(sed -n 's/^\.\\" links: //p' $$p); do \
			mkdir -p $$to$${l##*.}; \
			echo ".so man$$s/$$page" >$$to$${l##*.}/$$l; \
		done; \
	done

PREFIX ?= /usr/local
MANDIR ?= $(PREFIX)/share/man
export PREFIX DESTDIR

# Where Debian's python3 looks; below /usr, what is for all of its versions.
python_version = $(shell python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PYTHONDIR ?= $(PREFIX)/lib/python$(if $(filter /usr,$(PREFIX)),3,$(python_version))/dist-packages

# ---- what the README names ----

BUILD_DEPS := gcc g++ make libc6-dev libssl-dev zlib1g-dev libjson-c-dev
GUEST_DEPS := qemu-system-x86 busybox-static cpio kmod xz-utils zstd
DEMO_DEPS := libpng-dev
OPENCL_DEPS := ocl-icd-opencl-dev pocl-opencl-icd
BENCH_DEPS := libboost-dev python3
CHECK_DEPS := $(DEMO_DEPS) $(BENCH_DEPS) spin lcov sparse perl patch dkms mandoc bsdutils pkgconf

.PHONY: deps-demo deps-check deps-bench
deps-demo:
	@tools/deps $(BUILD_DEPS) $(GUEST_DEPS) $(DEMO_DEPS)

deps-check:
	@tools/deps $(BUILD_DEPS) $(GUEST_DEPS) $(CHECK_DEPS)

deps-bench:
	@tools/deps $(BUILD_DEPS) $(GUEST_DEPS) $(BENCH_DEPS)

# The module for a guest's kernel.
.PHONY: guest-module
guest-module:
	@k=$$(tools/vm/kernel $(KERNEL)) || exit; mkdir -p $(B); \
	$(MAKE) -s module KDIR=$$k/build \
		MODULE_DIR=$(B)/module-$(KERNEL) >$(B)/module-$(KERNEL).log 2>&1 || \
		{ cat $(B)/module-$(KERNEL).log; exit 1; }

# What both demos want.
define build_demo
@echo '$@: building libvine, the tools and the module: a minute or two at first' >&2
@mkdir -p $(B)
@$(MAKE) -s tools
@$(MAKE) -s -C tools/demo O=$(B)/demo/bin
@$(MAKE) -s guest-module
endef

.PHONY: demo
demo: deps-demo
	$(if $(filter-out host,$(APPLIANCE)),$(error APPLIANCE=$(APPLIANCE): it is host, or left out))
	$(build_demo)
	@tools/demo/run --kernel "$$(tools/vm/kernel $(KERNEL))" --modules $(B)/module-$(KERNEL) \
		--server $(B)/vine-server --appliance $(B)/vine-appliance --plugins $(B)/plugins \
		--bin $(B)/demo/bin --out $(B)/demo $(if $(INPUT),--input "$$INPUT") \
		$(if $(PICTURE),--picture "$$PICTURE") $(if $(CORRUPT),--corrupt $(CORRUPT)) \
		$(if $(filter host,$(APPLIANCE)),--host)

# Without DPDK's headers, what is compared with rte_ring is skipped.
.PHONY: bench bench-programs
bench-programs: deps-bench
	@mkdir -p $(B)
	@rte=$$(tools/vine-bench/rte-headers); \
		$(MAKE) -s -C tools/vine-bench O=$(B)/bench LIB=$(B)/lib RTE="$$rte"

bench: bench-programs
	@$(MAKE) -s -C tools/vine-server O=$(B)
	@$(MAKE) -s guest-module
	@tools/vine-bench/vine-bench --kernel "$$(tools/vm/kernel $(KERNEL))" \
		--modules $(B)/module-$(KERNEL) --server $(B)/vine-server $(BENCH)

.PHONY: demo-opencl
demo-opencl: deps-demo
	@tools/deps $(OPENCL_DEPS)
	$(build_demo)
	@tools/demo/run-opencl --kernel "$$(tools/vm/kernel $(KERNEL))" \
		--modules $(B)/module-$(KERNEL) --server $(B)/vine-server \
		--appliance $(B)/vine-appliance --plugin $(B)/plugins/opencl.so \
		--bin $(B)/demo/bin --out $(B)/demo $(if $(PICTURE),--picture "$$PICTURE")

.PHONY: check test check-debug models unit mutants fuzz lint
check test: deps-check
	@selftests/check

check-debug: deps-check
	@selftests/check --debug

models: ; @tools/deps spin gcc && selftests/models/run -j $$(nproc)
unit: ; @tools/deps gcc make && $(MAKE) -s -C selftests/unit O=$(B)/unit run
mutants: deps-check ; @selftests/mutants/run
fuzz: ; @tools/deps clang-14 libclang-rt-14-dev make python3 && selftests/fuzz/run --minutes $(or $(MINUTES),10) --jobs $(or $(JOBS),1)
lint: deps-check ; @selftests/check build

.PHONY: coverage
coverage: deps-check ; @selftests/coverage

.PHONY: clean
clean:
	rm -rf $(B)
