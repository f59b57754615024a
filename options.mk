# SPDX-License-Identifier: MIT OR GPL-2.0-only
#
# options.mk - the build options of user space, included by each Makefile before it uses
# CFLAGS. Documentation/build.md lists them. They are given to make; the environment, where
# DEBUG may mean anything, does not count.

TRACE := 1
DEBUG := 0
COVERAGE := 0
WAIT := adaptive
BACKEND :=

one_of = $(if $(filter-out $(2),$($(1))),$(error $(1)=$($(1)): expected one of: $(2)))
$(call one_of,TRACE,0 1)
$(call one_of,DEBUG,0 1)
$(call one_of,COVERAGE,0 1)
$(call one_of,WAIT,spin sleep adaptive)
# Not shm: that one wants the name of a file, which the configuration gives.
$(call one_of,BACKEND,device local null)

ifeq ($(DEBUG),1)
CFLAGS ?= -Og -g3 -fno-omit-frame-pointer
else
CFLAGS ?= -O2 -g
endif

# Atomic counters: without, threads lose counts.
options_here := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
ifeq ($(COVERAGE),1)
override CFLAGS += -O0 --coverage -fprofile-update=atomic \
	-include $(options_here)selftests/coverage.h
endif

# Not empty: a program can be linked with OpenCL's loader.
have_opencl = $(shell $(CC) -DCL_TARGET_OPENCL_VERSION=120 -include CL/cl.h -fsyntax-only -x c \
	/dev/null 2>/dev/null && test -e "$$($(CC) -print-file-name=libOpenCL.so)" && echo yes)

# $(eval $(call flags_stamp,FILE)): FILE changes when the compiler or its flags do. What
# depends on it is then built anew.
quoted = '$(subst ','\'',$(strip $(1)))'
define flags_stamp
$(1): FORCE
	@mkdir -p $$(@D)
	@printf '%s\n' $$(call quoted,$$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(flags) $$(LDFLAGS)) >$$@.new
	@if cmp -s $$@.new $$@; then rm $$@.new; else mv $$@.new $$@; fi
endef
