#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# split.sh - in a guest: parts that are refused, and two parts of a device that is unplugged
# shellcheck disable=SC1091,SC2015,SC2317
#
# Arguments: for how long things may take, in seconds; how many messages. An ivshmem-doorbell
# device of 64M; ivshmem-plain devices, in the order of their addresses: 64M with somebody
# else's data in the second half; 64M whose tables claim more than the first half; 32M, with a
# segment in the second half; 64M as the first, to be wiped.

. /t/lib.sh

limit=$1 messages=$2
pci=/sys/bus/pci/devices

# Those of one kind, doorbell or plain.
devices()
{
	for d in "$pci"/*; do
		[ "$(cat "$d/vendor") $(cat "$d/device")" = "0x1af4 0x1110" ] || continue
		# doorbell devices have a third BAR, for MSI-X
		kind=doorbell
		[ "$(sed -n 2p "$d/resource" | cut -d' ' -f1)" != 0x0000000000000000 ] || kind=plain
		[ $kind != "$1" ] || echo "${d##*/}"
	done
}

# The kernel's log says this of a device, and none of its parts is used.
refused()
{
	dmesg | sed 's/^\[[^]]*\] //' | grep "^vine $1: " >/tmp/said
	sed 's/^/# /' /tmp/said
	[ ! -e "$pci/$1/driver" ] && [ ! -e "$pci/$1/vine" ] && grep -qE "$2" /tmp/said
}

# The node of the part of the doorbell device at that offset.
part()
{
	for n in "$pci/$doorbell"/vine/*; do
		[ "$(cat "$n/offset" 2>/dev/null)" != "$1" ] || echo "/dev/${n##*/}"
	done
}

halves() { [ -c "$(part 0)" ] && [ -c "$(part 33554432)" ]; }

refused_module()
{
	! modprobe vine split="$1" 2>/dev/null && not loaded &&
		dmesg | grep -qF "vine: split=$1: at '"
}

# With that split, vine refuses the device, and says this.
refused_as()
{
	echo "$1" >/sys/module/vine/parameters/split
	echo "$2" >/sys/bus/pci/drivers/vine/bind 2>/dev/null
	result=1
	refused "$2" "$3" && result=0
	echo 32M,32M >/sys/module/vine/parameters/split
	return $result
}

# Then nothing keeps vine from using both parts.
wiped()
{
	vinectl wipe "$spoilt?off=32M&size=32M" --yes >/tmp/said 2>&1
	sed 's/^/# /' /tmp/said
	grep -q 'is blank, and is /dev/vine' /tmp/said &&
		[ "$(find "$pci/$spoilt/vine/" -name 'vine*' -mindepth 1 -maxdepth 1 | wc -l)" = 2 ]
}

# Messages through both parts at once, all of which is free again in the end.
both_used()
{
	set -- "$(part 0)" "$(part 33554432)"
	pids=''
	for device; do
		vine_traffic --serve --alone --timeout "$limit" --device "$device" >"/tmp/serve${device##*/}" &
		pids="$pids $!"
		vine_traffic --drive --alone --timeout "$limit" --device "$device" --messages "$messages" --pings 5 >"/tmp/drive${device##*/}" &
		pids="$pids $!"
	done
	result=0
	for pid in $pids; do
		wait "$pid" || result=1
	done
	[ $result = 0 ] || grep -h '^not ok\|^#' /tmp/serve* /tmp/drive*
	return $result
}

queues() { [ "$(vinectl queues --device "$1" | grep -c ' accepted ')" = 4 ]; }
ended() { for pid in $pids; do ! kill -0 "$pid" 2>/dev/null || return 1; done; }

unplugged_under_load()
{
	set -- "$(part 0)" "$(part 33554432)"
	pids=''
	for device; do
		vine_bulk --serve --timeout "$limit" --device "$device" >/dev/null 2>&1 &
		pids="$pids $!"
		vine_bulk --drive --transfers 100000000 --timeout "$limit" --device "$device" >/dev/null 2>&1 &
		pids="$pids $!"
	done
	for device; do
		until_true "$limit" queues "$device" || return 1
	done
	not ended || return 1
	echo 1 >"$pci/$doorbell/remove" || return 1
	until_true "$limit" ended && not [ -e "$1" ] && not [ -e "$2" ]
}

plugged_again()
{
	echo 1 >/sys/bus/pci/rescan
	until_true "$limit" halves
}

doorbell=$(devices doorbell)
# shellcheck disable=SC2046
set -- $(devices plain)
foreign=$1 lying=$2 short=$3 spoilt=$4

plan 14
ok "a part that is too small: the module does not load" refused_module 32M,1M
ok "parts that overlap: the same" refused_module 32M,32M@16M
ok "half an address: the same" refused_module 00:04.0=32M
modprobe vine plain=1 peer_timeout_ms=30000 split=32M,32M
ok "somebody else's data in the second part: no part is used" refused "$foreign" \
	'somebody else'
ok "and it is said which part it was" refused "$foreign" 'part 33554432@33554432; no part is used'
ok "tables that claim more than the part has: no part is used" refused "$lying" \
	'larger than the 33554432 bytes'
ok "more than the memory has: no part is used" refused "$short" \
	'split=32M,32M: the parts need 67108864 bytes of memory, the device has 33554432'
ok "a part in the middle of a segment: refused" refused_as "$lying=32M@32M" "$lying" \
	'bytes begins at byte 0, and one of 33554432 at 33554432 would share'
ok "a blank memory with a segment in its middle, used whole: refused" refused_as '' "$short" \
	'bytes begins at byte 16777216, and one of 33554432 at 0 would share'
ok "wipe: the second part alone; vine takes the device at once" wiped
ok "two halves" halves
ok "messages through both at once" both_used
ok "unplugged while both are in use: everybody notices" unplugged_under_load
plugged_again
ok "plugged in again: messages through both" both_used
rmmod vine
done_testing
