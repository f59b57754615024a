# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# lib.sh - for the commands of guests (busybox sh): runs programs that print TAP
#
# What a program prints stands between marks, by which selftests/guests/run sees that it
# came to its end. The guest's own status says nothing of the tests.
# shellcheck shell=dash disable=SC2034

PATH=$PATH:/t

# t NAME PROGRAM...: run it.
t()
{
	name=$1
	shift
	echo "### BEGIN $name"
	"$@"
	echo "### END $name $?"
}

# bg NAME PROGRAM...: start it; bg_end NAME: wait for it and print what it said.
bg()
{
	name=$1
	shift
	{
		"$@" >"/tmp/$name.tap" 2>&1
		echo $? >"/tmp/$name.status"
	} &
	eval "bg_$(echo "$name" | tr -c 'a-zA-Z0-9\n' _)=$!"
}

bg_end()
{
	eval "wait \$bg_$(echo "$1" | tr -c 'a-zA-Z0-9\n' _)"
	echo "### BEGIN $1"
	cat "/tmp/$1.tap"
	echo "### END $1 $(cat "/tmp/$1.status")"
}

# duo NAME PROGRAM 'OF ONE' 'OF THE OTHER': two that talk to each other, here.
duo()
{
	# shellcheck disable=SC2086
	bg "$1-serve" $2 $3
	# shellcheck disable=SC2086
	t "$1-drive" $2 $4
	bg_end "$1-serve"
}

# ---- TAP of shell scripts ----

tap_n=0 tap_bad=0

plan()
{
	echo "TAP version 13"
	echo "1..$1"
}

# ok NAME COMMAND...: the test passes when the command succeeds.
ok()
{
	what=$1
	shift
	tap_n=$((tap_n + 1))
	if "$@"; then
		echo "ok $tap_n - $what"
	else
		echo "not ok $tap_n - $what"
		tap_bad=$((tap_bad + 1))
	fi
}

# The script's end.
done_testing() { exit $((tap_bad > 0)); }

not() { ! "$@"; }

# until_true SECONDS COMMAND...
until_true()
{
	tries=$(($1 * 20))
	shift
	while ! "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.05
	done
}

node() { [ -c "/dev/vine$1" ]; }
loaded() { grep -q '^vine ' /proc/modules; }

# The memory of the first ivshmem device that has no driver.
unbound_segment()
{
	for d in /sys/bus/pci/devices/*; do
		[ "$(cat "$d/vendor") $(cat "$d/device")" = "0x1af4 0x1110" ] || continue
		[ -e "$d/driver" ] || { echo "$d/resource2"; return; }
	done
}
