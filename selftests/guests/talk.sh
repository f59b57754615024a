#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# talk.sh - in a guest: VineTalk with a real appliance
#
#	talk.sh both TASKS SECONDS	appliance and clients in this guest
#	talk.sh serve SECONDS		the appliance, until the other guest is done
#	talk.sh drive TASKS SECONDS	the clients
#	talk.sh client TASKS SECONDS	clients of an appliance that is no guest
#	talk.sh many TASKS SECONDS	many clients, bad handlers, and traces, in this guest
#
# TASKS: of each of the 10 threads of the stress program; of each of many clients. SECONDS: for
# each step.
# shellcheck disable=SC1091,SC2015,SC2317

. /t/lib.sh

# serve [OPTION...]: a line says that it serves.
serve()
{
	[ $# -gt 0 ] || set -- --accelerator cpu0:CPU:2 --accelerator gpu0:GPU:1 \
		--accelerator fpga0:FPGA:1:0000:01:00.0
	vine-appliance --plugins /t/plugins "$@" 2>/tmp/appliance.log &
	appliance=$!
	until_true "$patience" grep -q "offers vinetalk" /tmp/appliance.log
}

# Its exit status.
stop()
{
	kill "$appliance" && wait "$appliance"
}

# run PROGRAM...: what it says on standard error is of interest only when it fails.
run()
{
	timeout "$patience" "$@" 2>/tmp/stderr && return
	status=$?
	tail -n 20 /tmp/stderr | sed 's/^/# /'
	echo "# false: ended with status $status: $*"
	return 1
}

quietly() { "$@" >/dev/null 2>&1; }
offered() { vinectl services | grep -q '^vinetalk '; }

# Of the whole segment: no queue, no region, all memory free.
nothing()
{
	vinectl info >/tmp/info && grep -qE '^queues +0,' /tmp/info &&
		grep -qE '^regions +0,' /tmp/info && grep -qE '^memory +(.*) of \1 free' /tmp/info
}
nothing_left() { until_true "$patience" nothing || { sed 's/^/# /' /tmp/info; return 1; }; }

programs()
{
	ok "a program of the seeds' header, in C99" run seeds_c99
	ok "a program of the seeds' header, in C++" run seeds_cxx
	ok "10 threads with $tasks tasks each, the data of each checked" run noop_stress 10 "$tasks"
}

# A client that is killed at work; the appliance goes on.
client_dies()
{
	noop_stress 4 20000 >/dev/null 2>&1 &
	client=$!
	until_true "$patience" busy && kill -KILL $client
	wait $client
	nothing_left && run noop_stress 2 10
}

busy() { [ "$(vinectl queues | grep -c accepted)" -ge 5 ]; }

# An appliance that is killed at work: every task of the client is lost, and it says so.
appliance_dies()
{
	noop_stress 4 20000 >/tmp/lost 2>&1 &
	client=$!
	until_true "$patience" busy && kill -KILL "$appliance"
	wait $client
	[ $? = 1 ] && grep -q 'the appliance is gone' /tmp/lost && nothing_left && return
	sed 's/^/# /' /tmp/lost
	return 1
}

case $1 in
both)
	tasks=$2 patience=$3
	plan 9
	ok "the appliance offers its accelerators" serve
	programs
	ok "nothing is left in the segment" nothing_left
	ok "a client is killed at work: nothing is left, the appliance goes on" client_dies
	ok "the appliance is killed at work: the tasks are lost, nothing is left" appliance_dies
	ok "another one comes" serve
	ok "and ends when it is told to" stop
	;;
serve)
	patience=$2
	plan 3
	ok "the appliance offers its accelerators" serve
	ok "the other guest is done" quietly vine_traffic --serve --name bye --queues 1 --timeout "$patience"
	ok "the appliance ends when it is told to" stop
	;;
drive)
	tasks=$2 patience=$3
	plan 6
	ok "an appliance is there" until_true "$patience" offered
	programs
	ok "nothing is left in the segment" nothing_left
	ok "the other guest is told" quietly vine_traffic --drive --name bye --queues 1 \
		--messages 10 --timeout "$patience"
	;;
client)
	tasks=$2 patience=$3
	plan 5
	ok "an appliance is there" until_true "$patience" offered
	programs
	ok "nothing is left in the segment" nothing_left
	;;
many)
	tasks=$2 patience=$3
	plan 8
	ok "an appliance with handlers that do what they should not" serve \
		--accelerator cpu0:CPU --accelerator cpu1:CPU --accelerator gpu0:GPU \
		--accelerator fpga0:FPGA --plugin /t/talk/faults/faults.so --time-limit 5000
	ok "64 clients on 4 accelerators of 3 types get the same" run fair_clients 64 "$tasks"
	ok "handlers crash, hang, write past their output, fail: all others go on" run bad_handlers
	ok "the appliance ends when it is told to" stop
	export VINE_TRACE=/out/trace
	mkdir "$VINE_TRACE"
	ok "an appliance that traces" serve
	ok "a client that traces" run noop_stress 4 "$tasks"
	ok "the appliance ends when it is told to" stop
	ok "nothing is left in the segment" nothing_left
	;;
esac
done_testing
