#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# vinectl.sh - in a guest: what vinectl says and does. Another guest sends data through
# two queues of the service "ctl" here; the host pauses it and lets it go on.
# shellcheck disable=SC1091,SC2015,SC2317
#
# Arguments: for how long things may take, in seconds; peer_timeout_ms. The ivshmem-plain
# devices, in the order of their addresses: somebody else's data; a newer vine's; the
# memory of /dev/vine0.

. /t/lib.sh

patience=$1 timeout_ms=$2

plain_devices()
{
	for d in /sys/bus/pci/devices/*; do
		[ "$(cat "$d/vendor") $(cat "$d/device")" = "0x1af4 0x1110" ] || continue
		# doorbell devices have a third BAR, for MSI-X
		[ "$(sed -n 2p "$d/resource" | cut -d' ' -f1)" = 0x0000000000000000 ] || continue
		echo "${d##*/}"
	done
}

# gives STATUS COMMAND...: it ends with that status; what it says is in /tmp/said.
gives()
{
	want=$1
	shift
	"$@" </dev/null >/tmp/said 2>&1
	status=$?
	[ "$status" = "$want" ] && return
	sed 's/^/# /' /tmp/said
	echo "# false: status $status, not $want: $*"
	return 1
}

# and it says this (an extended regular expression)
says() { grep -qE "$1" /tmp/said || { sed 's/^/# /' /tmp/said; echo "# false: says $1"; return 1; }; }

# SLOT.INCARNATION of this guest, of the other one. It is in this state.
us() { vinectl peers | sed -n 's/ .*this machine$//p'; }
them() { vinectl peers | sed -n '1d; /this machine$/d; s/ .*//p'; }
other() { vinectl peers | sed '1d; /this machine$/d' | grep -qE "^[0-9.]+ +$1 "; }
connected() { [ "$(vinectl queues | grep -c ' accepted ')" = 2 ]; }

info()
{
	peer=$(dmesg | sed -n 's/.*vine vine0: peer \([0-9.]*\),.*/\1/p')
	gives 0 vinectl info && says "^peer +$peer, IVPosition [0-9]+, 4 vectors$" &&
		says '^device +/dev/vine0 \(ivshmem-doorbell\)$' &&
		says '^segment +64 MiB, generation [0-9a-f]{16}, memory (un)?cached' &&
		says '^memory .* in chunks of 64 KiB$' && says '^queues +2, 0 made by this machine$'
}

peers()
{
	gives 0 vinectl peers && says '^PEER +STATE +IVPOSITION +VECTORS +LAST BEAT$' &&
		says '^[0-9.]+ +live +[0-9]+ +4 +this machine$' &&
		says '^[0-9.]+ +live +[0-9]+ +4 +(just now|[0-9]+ s ago)$' &&
		[ "$(wc -l </tmp/said)" = 3 ]
}

services()
{
	gives 0 vinectl services && says '^NAME +TYPE +PEER +STATE +WAITING +PID$' &&
		says "^ctl +0 +$(us) +live +0 +$server$"
}

queues()
{
	gives 0 vinectl queues && says '^QUEUE +SERVICE +CLIENT +PID +SERVER +PID +STATE +DEPTH' &&
		says " ctl +$(them) +- +$(us) +$server +accepted +[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+$" &&
		[ "$(wc -l </tmp/said)" = 3 ]
}

# The other guest's: its rings, and its data, which the server here holds most of the time.
regions()
{
	vinectl regions >/tmp/said &&
		grep -qE '^REGION +OWNER +STATE +SIZE +KIND +HELD BY +USES +PID$' /tmp/said &&
		grep -qE "^[0-9a-f]{16} +$(them) +live +64 KiB +rings +0,1 +[0-9]+ +-$" /tmp/said &&
		grep -qE "^[0-9a-f]{16} +$(them) +live +[0-9.]+ [KM]iB +data +0,1 +1 +$server$" /tmp/said
}

json()
{
	for table in info peers services queues regions; do
		vinectl $table --json >/out/$table.json || return 1
	done
	echo "$server" >/out/server.pid
}

as_nobody() { su nobody -s /bin/sh -c "$*"; }

no_access()
{
	gives 1 as_nobody vinectl info && says 'permission denied: be root .*udev rule' || return 1
	chgrp 65534 /dev/vine0 && chmod 660 /dev/vine0 || return 1
	sed -i 's/^nobody:x:65534:65534:/nobody:x:65534:0:/' /etc/passwd
	gives 1 as_nobody vinectl info && says 'permission denied: be a member of the group nogroup'
	result=$?
	chmod 666 /dev/vine0
	return $result
}

only_its_own()
{
	gives 0 as_nobody vinectl queues && [ "$(wc -l </tmp/said)" = 1 ] &&
		gives 0 as_nobody vinectl regions && [ "$(wc -l </tmp/said)" = 1 ] &&
		gives 0 as_nobody vinectl services && says '^ctl +.* -$' &&
		gives 0 as_nobody vinectl peers && [ "$(wc -l </tmp/said)" = 3 ]
}

wrong_usage()
{
	gives 2 vinectl && gives 2 vinectl nothing && gives 2 vinectl peers 1 &&
		gives 2 vinectl peers --yes && gives 2 vinectl bury && gives 2 vinectl bury one &&
		gives 2 vinectl bury 64 && gives 2 vinectl wipe && says 'without a driver: 0000:' &&
		gives 2 vinectl wipe x --json && gives 2 vinectl --nothing info &&
		gives 0 vinectl --help && gives 0 vinectl wipe --help && gives 0 vinectl --version
}

no_such_device()
{
	gives 1 vinectl info --device /dev/vine9 && says 'no such device, but /dev/vine0' &&
		gives 1 vinectl info --device /dev/null && says 'is no vine device'
}

bury_living()
{
	slot=$(them)
	slot=${slot%.*}
	gives 1 vinectl bury "$slot" --yes && says 'is alive: it beat' &&
		gives 1 vinectl bury "$(us)" --yes && says 'is this machine itself' &&
		gives 1 vinectl bury 33 --yes && says 'no peer 33' &&
		gives 1 vinectl bury "$slot.999" --yes &&
		says "no peer $slot.999 .*the slot is $(them)'s" &&
		other live
}

bury_unasked() { gives 2 vinectl bury "$(them)" && says 'say --yes' && other suspect; }

bury_as_nobody()
{
	gives 1 as_nobody vinectl bury "$(them)" --yes && says 'only root' && other suspect
}

bury_dead()
{
	dead=$(them)
	gives 0 vinectl bury "$dead" --yes && says "^peer $dead is gone" && not other '[a-z]+' &&
		[ "$(vinectl regions | wc -l)" = 1 ] && [ "$(vinectl queues | wc -l)" = 1 ]
}

wipe_refused()
{
	bridge=$(for d in /sys/bus/pci/devices/*; do echo "${d##*/}"; break; done)
	gives 1 vinectl wipe "$bridge" --yes && says 'is not an ivshmem device' &&
		gives 1 vinectl wipe 0000:99:00.0 --yes && says 'no such PCI device' &&
		gives 1 vinectl wipe "/sys/bus/pci/devices/$foreign/resource2" --yes &&
		says 'give the PCI address' &&
		gives 1 vinectl wipe /dev/null --yes && says 'not a regular file' &&
		gives 1 vinectl wipe "$memory" --yes && says 'vine uses it'
}

returned() { other live && [ "$(them)" != "$dead" ]; }

# The memory of /dev/vine0, reached through a device that vine has let go of.
wipe_in_use()
{
	echo "$memory" >/sys/bus/pci/drivers/vine/unbind &&
		gives 1 vinectl wipe "$memory" --yes && says 'is in use: peer [0-9]+\.[0-9]+ .*alive' &&
		gives 0 vinectl peers && says "^$(us) +live"
}

wipe_unasked()
{
	gives 2 vinectl wipe "$foreign" && says 'say --yes' &&
		gives 1 as_nobody vinectl wipe "$foreign" --yes && says 'only root'
}

# Vine is there and takes it at once. With the short form of the address.
wipe_foreign()
{
	gives 0 vinectl wipe "${foreign#0000:}" --yes && says 'is blank, and is /dev/vine[0-9]+ now$' &&
		node=$(sed 's/.* is \(\/dev\/[a-z0-9]*\) now$/\1/' /tmp/said) &&
		gives 0 vinectl info --device "$node" && says '^segment +16 MiB'
}

wipe_newer()
{
	rmmod vine && gives 0 vinectl wipe "$newer" --yes && says 'is blank. Now load vine' &&
		gives 0 vinectl wipe "$newer" --yes && says 'is blank already' &&
		gives 1 vinectl info && says 'vine is not loaded: modprobe vine' &&
		modprobe vine plain=1 peer_timeout_ms="$timeout_ms" && [ -d "/sys/bus/pci/devices/$newer/vine" ] &&
		[ -d "/sys/bus/pci/devices/$foreign/vine" ]
}

printf 'nobody:x:65534:65534:nobody:/:/bin/sh\n' >>/etc/passwd
printf 'nogroup:x:65534:\n' >>/etc/group
# shellcheck disable=SC2046
set -- $(plain_devices)
foreign=$1 newer=$2 memory=$3
vine_bulk --serve --name ctl --queues 2 --timeout $((patience * 4)) >/tmp/serve 2>&1 &
server=$!

plan 22
ok "the other guest is there, and connects twice" until_true "$patience" connected
ok "info" info
ok "peers" peers
ok "services" services
ok "queues" queues
ok "regions" until_true "$patience" regions
ok "all of it as JSON" json
ok "no access: it says what to do" no_access
ok "an unprivileged user is told of its own only" only_its_own
ok "a wrong command line gives status 2" wrong_usage
ok "no such device: it says what to do" no_such_device
ok "who lives is not buried" bury_living
echo "EVENT pause"
ok "the other guest is paused: it becomes suspect" until_true "$patience" other suspect
wait $server
ok "nobody is buried without a question, or --yes" bury_unasked
ok "an unprivileged user buries nobody" bury_as_nobody
ok "bury: it is gone, and what it had" bury_dead
echo "EVENT resume"
ok "the other guest goes on, and comes as another" until_true "$patience" returned
rmmod vine && modprobe vine plain=1 peer_timeout_ms="$timeout_ms"
ok "wipe: not what vine uses, nor anything else" wipe_refused
ok "wipe: not what somebody uses elsewhere" wipe_in_use
ok "wipe: not without a question, or --yes; not by everybody" wipe_unasked
ok "wipe: foreign data; vine takes it at once" wipe_foreign
ok "wipe: a newer vine's; then modprobe works" wipe_newer
echo "EVENT end"
done_testing
