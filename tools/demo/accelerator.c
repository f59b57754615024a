// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * accelerator.c - the accelerators of the demo's appliance: each a thread of its own, so
 * that a slow one never holds the other up
 *
 * Input and output are memory of another machine, which may change them at any time: that
 * spoils its own result and nothing else.
 */
#include <openssl/sha.h>
#include <string.h>
#include <sys/eventfd.h>
#include <zlib.h>

#include "accelerator.h"
#include "protocol.h"

#define GZIP_MEMBER	(15 + 16)	/* windowBits: the largest window, gzip's header */
#define MEM_LEVEL	8		/* zlib's default */

void accelerator_sha256(struct job *job)
{
	if (job->out_room < SHA256_DIGEST_LENGTH) {
		job->status = DEMO_NO_ROOM;
		return;
	}
	if (!SHA256(job->in, job->in_bytes, job->out)) {
		job->status = DEMO_FAILED;
		return;
	}
	job->out_bytes = SHA256_DIGEST_LENGTH;
	job->status = DEMO_OK;
}

void accelerator_deflate(struct job *job)
{
	z_stream z = {
		.next_in = (Bytef *)job->in, .avail_in = job->in_bytes,
		.next_out = job->out, .avail_out = job->out_room,
	};
	int ret;

	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_MEMBER, MEM_LEVEL,
			 Z_DEFAULT_STRATEGY) != Z_OK) {
		job->status = DEMO_FAILED;
		return;
	}
	ret = deflate(&z, Z_FINISH);
	if (ret == Z_STREAM_END) {
		job->out_bytes = z.total_out;
		job->status = DEMO_OK;
	} else {
		job->status = ret == Z_OK || ret == Z_BUF_ERROR ? DEMO_NO_ROOM : DEMO_FAILED;
	}
	deflateEnd(&z);
}

void jobs_add(struct jobs *jobs, struct job *job)
{
	job->next = NULL;
	if (jobs->first)
		jobs->last->next = job;
	else
		jobs->first = job;
	jobs->last = job;
}

struct job *jobs_take(struct jobs *jobs)
{
	struct job *job = jobs->first;

	if (job)
		jobs->first = job->next;
	return job;
}

static void finish(struct done *done, struct job *job)
{
	pthread_mutex_lock(&done->lock);
	jobs_add(&done->jobs, job);
	pthread_mutex_unlock(&done->lock);
	eventfd_write(done->event, 1);
}

static void *work(void *arg)
{
	struct accelerator *a = arg;
	struct job *job;

	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		job = jobs_take(&a->jobs);
		if (!job) {
			pthread_cond_wait(&a->wake, &a->lock);
			continue;
		}
		pthread_mutex_unlock(&a->lock);

		job->out_bytes = 0;
		a->run(job);
		if (a->corrupt && job->status == DEMO_OK) {
			job->out[job->out_bytes / 2] ^= 0xff;
			a->corrupt = false;
		}
		finish(a->done, job);

		pthread_mutex_lock(&a->lock);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

int accelerator_start(struct accelerator *a, struct done *done)
{
	a->done = done;
	a->jobs = (struct jobs){ };
	a->stop = false;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->wake, NULL);
	return pthread_create(&a->thread, NULL, work, a);
}

void accelerator_stop(struct accelerator *a)
{
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_signal(&a->wake);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock);
}

void accelerator_give(struct accelerator *a, struct job *job)
{
	pthread_mutex_lock(&a->lock);
	jobs_add(&a->jobs, job);
	pthread_cond_signal(&a->wake);
	pthread_mutex_unlock(&a->lock);
}
