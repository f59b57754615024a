#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# dkms.sh - in a guest: the module that DKMS built
# shellcheck disable=SC1091,SC2015,SC2317
#
# Argument: the version that it must have.

. /t/lib.sh

version=$1

is_loaded() { modprobe vine loopback=1 && until_true 10 node 0; }
is_ours() { modinfo vine | grep -q '^filename: .*/updates/dkms/vine\.ko'; }
has_version() { [ "$(cat /sys/module/vine/version)" = "$version" ]; }

works()
{
	vine_traffic --serve --queues 2 --timeout 60 >/dev/null &
	vine_traffic --drive --queues 2 --messages 100 --timeout 60 >/dev/null && wait $!
}

plan 5
ok "modprobe finds the module" is_loaded
ok "it is the one of DKMS" is_ours
ok "it has the version $version" has_version
ok "it works" works
ok "it can be removed" rmmod vine
done_testing
