#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# bad-segments.sh - in a guest: devices whose memory vine must not touch
# shellcheck disable=SC1091,SC2015,SC2317
#
# Arguments: for each ivshmem-plain device, in the order of their addresses, a name and
# the message that must come (an extended regular expression); "works" as the message:
# a blank one that must come to life.

. /t/lib.sh

devices()
{
	for d in /sys/bus/pci/devices/*; do
		[ "$(cat "$d/vendor") $(cat "$d/device")" != "0x1af4 0x1110" ] || echo "${d##*/}"
	done
}

# What vine said about a device since then.
seen=0
of() { dmesg | tail -n "+$((seen + 1))" | sed 's/^\[[^]]*\] //' | grep "^vine $1: "; }
unbound() { [ ! -e "/sys/bus/pci/devices/$1/driver" ]; }

once()
{
	of "$1" | sed 's/^/# /'
	[ "$(of "$1" | wc -l)" = 1 ] && of "$1" | grep -qE "$2" && unbound "$1"
}

left_alone()
{
	modprobe vine && not node 0 || return 1
	for d in $(devices); do
		of "$d" | grep -q 'left alone' && unbound "$d" || return 1
	done
	rmmod vine
}

count_nodes()
{
	set -- /dev/vine*
	[ -e "$1" ] && echo $# || echo 0
}

plan $(($# / 2 + 2))
ok "without plain=1 every plain device is left alone" left_alone
seen=$(dmesg | wc -l)
modprobe vine plain=1 peer_timeout_ms=30000
bound=0
for d in $(devices); do
	if [ "$2" = works ]; then
		bound=$((bound + 1))
		ok "$1: works" not unbound "$d"
	else
		ok "$1: refused, with one message" once "$d" "$2"
	fi
	shift 2
done
ok "there are $bound nodes, and no more" [ "$(count_nodes)" = $bound ]
rmmod vine
done_testing
