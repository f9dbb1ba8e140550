/* A small pool of threads for jobs made of independent parts. */
#ifndef NUMFUSE_POOL_H
#define NUMFUSE_POOL_H

#include "kernels.h"

enum { POOL_MAX_THREADS = 256 };

/* Picoseconds of work on one thread from which on a job uses more. Measured with all kernels on 2 CPUs: where a
 * sleeping thread must be woken, which takes some 50 us, two threads are as fast as one from about 120 us on;
 * where it is still awake, from 20 to 40 us on. */
enum { POOL_THRESHOLD = 120000000 };

/* To be called once, before anything else here. */
void pool_init(void);

/* Threads that a job may use, the calling one included: 1 to POOL_MAX_THREADS. After a fork the
 * child has 1 until it sets another number. */
void pool_set_threads(int threads);
int pool_get_threads(void);

/* Runs the task over [0, size) in parts that begin at multiples of `grain`, and returns when all are
 * done. `work` is what the whole job takes one thread, in picoseconds. Runs on the calling thread alone
 * if that is little, or if another thread is using the pool. */
void pool_run(task *run, const void *args, ptrdiff_t size, ptrdiff_t grain, int64_t work);

#endif
