// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * trace_subject.c - a program to be traced, for trace_test: makes calls and says which
 *
 *	trace_subject calls             every call, with handles good and bad
 *	trace_subject threads N TASKS   N threads, one after the other as well as at once
 *	trace_subject kill SIGNAL       threads issue tasks; one sends the process the signal
 *	trace_subject segv              the same; one writes where it must not
 *	trace_subject thread            a thread ends, and then SIGKILL comes
 *	trace_subject fork              a child traces its own calls, another makes none
 *	trace_subject again             init and exit twice
 *	trace_subject forget            exit() without vine_talk_exit(), a thread still at it
 *	trace_subject limit BYTES       no file may grow beyond
 *	trace_subject names NAME...     procedures of these names, a task each
 *	trace_subject appliance PLUGIN  40 tasks of two threads for an appliance, which is a child,
 *	                                2 that fail there, and some when SIGTERM has ended it
 *
 * Prints the name of each call, where the order is known, or else nothing.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vine.h>
#include <vine_serve.h>
#include <vine_talk.h>

#define SAY(call)	(printf("%.*s\n", (int)strcspn(#call, "("), #call), call)

static vine_accel *accel;
static vine_proc *proc;

static void begin(void)
{
	vine_accel **list;

	SAY(vine_talk_init());
	if (!SAY(vine_accel_list(ANY, &list)))
		exit(2);
	accel = list[0];
	free(list);
	proc = SAY(vine_proc_register(ANY, "subject", NULL, 0));
}

static void one_task(void)
{
	vine_data *data = vine_data_alloc(64, Both);
	vine_task *task;

	vine_data_mark_ready(data);
	task = vine_task_issue(accel, proc, NULL, 1, &data, 1, &data);
	if (vine_task_wait(task) != task_completed)
		exit(3);
	vine_task_free(task);
	vine_data_free(data);
}

static void *tasks(void *count)
{
	int i, n = *(int *)count;

	for (i = 0; i < n; i++)
		one_task();
	return NULL;
}

static void *tasks_for_ever(void *done)
{
	for (;;) {
		one_task();
		__atomic_fetch_add((int *)done, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Returns when some threads have done some tasks, and go on. */
static void keep_busy(void)
{
	static int done;
	pthread_t thread;
	int i;

	begin();
	for (i = 0; i < 4; i++)
		if (pthread_create(&thread, NULL, tasks_for_ever, &done))
			exit(2);
	while (__atomic_load_n(&done, __ATOMIC_RELAXED) < 2000)
		one_task();
}

static void calls(void)
{
	vine_data *data, *both[2];
	vine_accel *virtual, *none = NULL;
	vine_task *task;

	SAY(vine_accel_list(GPU, NULL));	/* opens by itself */
	begin();
	SAY(vine_talk_backend("null"));
	SAY(vine_accel_list((vine_accel_type_e)77, NULL));
	SAY(vine_accel_location(accel));
	SAY(vine_accel_type(accel));
	SAY(vine_accel_stat(accel, NULL));
	virtual = accel;
	SAY(vine_accel_acquire(&virtual));
	SAY(vine_accel_release(&virtual));
	SAY(vine_accel_release(&none));
	SAY(vine_proc_get(CPU, "no such"));
	SAY(vine_proc_register(ANY, NULL, NULL, 0));
	both[0] = data = SAY(vine_data_alloc(100, HostOnly));
	both[1] = SAY(vine_data_alloc(28, AccelOnly));
	SAY(vine_data_alloc(0, Both));
	SAY(vine_data_size(data));
	SAY(vine_data_deref(data));
	SAY(vine_data_mark_ready(data));
	task = SAY(vine_task_issue(accel, proc, data, 2, both, 1, both));
	SAY(vine_task_stat(task, NULL));
	SAY(vine_task_wait(task));
	SAY(vine_task_free(task));
	SAY(vine_task_wait(task));
	SAY(vine_task_issue(accel, proc, (vine_data *)&data, 0, NULL, 0, NULL));
	SAY(vine_data_free(both[0]));
	SAY(vine_data_free(both[1]));
	SAY(vine_data_free(NULL));
	SAY(vine_proc_put(proc));
	SAY(vine_proc_put(proc));
	SAY(vine_task_reason_text(vine_reason_lost));
	SAY(vine_talk_exit());
}

static void threads(int n, int count)
{
	pthread_t thread[64];
	int i;

	n = n < 64 ? n : 64;
	begin();
	for (i = 0; i < n; i++) {
		if (pthread_create(&thread[i], NULL, tasks, &count))
			exit(2);
	}
	for (i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < n; i++) {
		if (pthread_create(&thread[i], NULL, tasks, &count))
			exit(2);
		pthread_join(thread[i], NULL);
	}
	vine_talk_exit();
}

static void wait_for(pid_t child)
{
	int status;

	if (child < 0 || waitpid(child, &status, 0) != child || status)
		exit(4);
}

static void forks(void)
{
	pid_t child;
	int two = 2, five = 5;

	begin();
	tasks(&five);
	fflush(stdout);
	child = fork();
	if (!child)
		exit(0);
	wait_for(child);
	child = fork();
	if (!child) {
		begin();
		tasks(&two);
		exit(0);
	}
	wait_for(child);
	tasks(&two);
	vine_talk_exit();
}

static void names(char **name)
{
	vine_task *task;
	vine_proc *named;

	begin();
	for (; *name; name++) {
		named = vine_proc_register(ANY, *name, NULL, 0);
		if (!named)
			continue;
		task = vine_task_issue(accel, named, NULL, 0, NULL, 0, NULL);
		vine_task_wait(task);
		vine_task_free(task);
	}
	vine_talk_exit();
}

static void serve(const char *plugin)
{
	char error[VINE_SERVE_ERROR];
	struct vine_serve *serve = vine_serve_new(NULL, error);

	if (!serve || vine_serve_plugin(serve, plugin, error) ||
	    vine_serve_accelerator(serve, "cpu0", CPU, 2, NULL, error) ||
	    vine_serve_run(serve, error)) {
		fprintf(stderr, "appliance: %s\n", error);
		exit(5);
	}
	vine_serve_free(serve);
	exit(0);
}

static void with_appliance(const char *plugin)
{
	struct vine_service service;
	pid_t child = fork();
	pthread_t thread;
	vine_data *args;
	vine_task *task;
	int device, status, twenty = 20, i;

	if (!child)
		serve(plugin);
	device = vine_open(NULL);
	while (vine_services(device, &service, 1) != 1)
		if (waitpid(child, NULL, WNOHANG))
			exit(4);
	close(device);
	begin();
	proc = vine_proc_get(CPU, "copy");
	if (pthread_create(&thread, NULL, tasks, &twenty))
		exit(2);
	tasks(&twenty);
	pthread_join(thread, NULL);
	proc = vine_proc_get(CPU, "fail");
	args = vine_data_alloc(sizeof(int), Both);
	*(int *)vine_data_deref(args) = -5;
	for (i = 0; i < 2; i++) {
		task = vine_task_issue(accel, proc, args, 0, NULL, 0, NULL);
		if (vine_task_wait(task) != task_failed)
			exit(3);
		vine_task_free(task);
	}
	kill(child, SIGTERM);
	if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
		exit(4);
	/* one may be lost before it is known that the appliance is */
	while ((task = vine_task_issue(accel, proc, args, 0, NULL, 0, NULL))) {
		if (vine_task_wait(task) != task_failed)
			exit(3);
		vine_task_free(task);
	}
	vine_data_free(args);
	vine_talk_exit();
}

/* Not at address 0: the thread sanitizer maps it. */
__attribute__((no_sanitize("address", "undefined", "thread")))
static void crash(void)
{
	volatile int *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*nowhere = 1;
}

static void limited(rlim_t bytes)
{
	struct rlimit limit = { bytes, bytes };
	int count = 1000;

	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit))
		exit(2);
	begin();
	tasks(&count);
	vine_talk_exit();
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	pthread_t thread;
	int five = 5;

	if (!strcmp(what, "calls")) {
		calls();
	} else if (!strcmp(what, "threads") && argc == 4) {
		threads(atoi(argv[2]), atoi(argv[3]));
	} else if (!strcmp(what, "kill") && argc == 3) {
		keep_busy();
		kill(getpid(), atoi(argv[2]));
		pause();
	} else if (!strcmp(what, "segv")) {
		keep_busy();
		crash();
	} else if (!strcmp(what, "thread")) {
		begin();
		if (pthread_create(&thread, NULL, tasks, &five))
			return 2;
		pthread_join(thread, NULL);
		kill(getpid(), SIGKILL);
	} else if (!strcmp(what, "fork")) {
		forks();
	} else if (!strcmp(what, "again")) {
		begin();
		tasks(&five);
		vine_talk_exit();
		begin();
		tasks(&five);
		vine_talk_exit();
	} else if (!strcmp(what, "forget")) {
		keep_busy();
	} else if (!strcmp(what, "names")) {
		names(argv + 2);
	} else if (!strcmp(what, "appliance") && argc == 3) {
		with_appliance(argv[2]);
	} else if (!strcmp(what, "limit") && argc == 3) {
		limited((rlim_t)atoi(argv[2]));
	} else {
		return 2;
	}
	return 0;
}
