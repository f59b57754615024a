#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# module.sh - in a guest: load and remove, with open descriptors, with wrong parameters
# shellcheck disable=SC1091,SC2015,SC2317

. /t/lib.sh

cycles=${1:-10}
driver=/sys/bus/platform/drivers/vine_loopback

quiet() { "$@" 2>/dev/null; }
new_lines() { dmesg | tail -n "+$((seen + 1))" | grep vine; }
load() { modprobe vine "$@"; }
busy() { rmmod vine 2>&1 | grep -qiE 'busy|temporarily unavailable|in use'; }

used()
{
	vine_traffic --serve --queues 2 --timeout 60 >/dev/null &
	vine_traffic --drive --queues 2 --messages 100 --timeout 60 >/dev/null && wait $!
}

cycle()
{
	i=0
	while [ "$i" -lt "$cycles" ]; do
		load loopback=1 && until_true 10 node 0 || return 1
		# what was made must be gone with it
		[ $((i % 2)) = 0 ] || used || return 1
		rmmod vine && not loaded && until_true 10 not node 0 || return 1
		i=$((i + 1))
	done
}

# The module stays when something is open, and works on.
held_by_descriptor()
{
	load loopback=1 && until_true 10 node 0 || return 1
	exec 3</dev/vine0
	busy && loaded && node 0
	result=$?
	exec 3<&-
	return "$result"
}

# The listener, not the node, is what is open.
held_by_listener()
{
	vine_traffic --serve --queues 1 --timeout 60 >/tmp/held 2>&1 &
	until_true 20 grep -q '^1\.\.' /tmp/held || return 1
	until_true 20 busy || return 1
	vine_traffic --drive --queues 1 --messages 10 --timeout 60 >/dev/null
	result=$?
	wait $!
	return "$result"
}

# It loads; there is no device; the kernel said why; it can be removed.
no_device()
{
	seen=$(dmesg | wc -l)
	quiet load "$@"
	not node 0 && [ "$(new_lines | wc -l)" -gt 0 ] || return 1
	new_lines | head -n 5 | sed 's/^/# /'
	not loaded || rmmod vine
}

no_device_quietly() { load && loaded && not node 0 && rmmod vine; }

refused()
{
	not quiet load "$@" && not loaded && not node 0
}

unbind_bind()
{
	load loopback=1 && until_true 10 node 0 || return 1
	echo vine_loopback >"$driver/unbind" && until_true 10 not node 0 || return 1
	echo vine_loopback >"$driver/bind" && until_true 10 node 0
}

plan 12
ok "$cycles times loaded and removed" cycle
ok "open node: rmmod says that it is busy, and nothing changes" held_by_descriptor
ok "open listener: the same, and it works on" held_by_listener
ok "closed: it can be removed" rmmod vine
ok "without parameters there is no device" no_device_quietly
ok "loopback_mb=0 gives no device" no_device loopback=1 loopback_mb=0
ok "loopback_mb=4 is too small" no_device loopback=1 loopback_mb=4
ok "loopback_mb=1048576 is too large" no_device loopback=1 loopback_mb=1048576
ok "loopback=maybe is refused" refused loopback=maybe
ok "peer_timeout_ms=soon is refused" refused loopback=1 peer_timeout_ms=soon
ok "unbound and bound again" unbind_bind
ok "removed in the end" rmmod vine
done_testing
