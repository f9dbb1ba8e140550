/* A small pool of threads for jobs made of independent parts. */
#ifndef ONEPASS_POOL_H
#define ONEPASS_POOL_H

#include "kernels.h"

enum { POOL_MAX_THREADS = 256 };

/* Elements of a job from which on threads are used: waking a sleeping one takes some 50 us. */
enum { POOL_THRESHOLD = 1 << 19 };

/* To be called once, before anything else here. */
void pool_init(void);

/* Threads that a job may use, the calling one included: 1 to POOL_MAX_THREADS. After a fork the
 * child has 1 until it sets another number. */
void pool_set_threads(int threads);
int pool_get_threads(void);

/* Runs the kernel over [0, size) in parts that begin at multiples of `grain`, and returns when all are
 * done. `work` is the number of elements that the whole job touches. Runs on the calling thread alone
 * if that is little, or if another thread is using the pool. */
void pool_run(kernel *task, const void *args, ptrdiff_t size, ptrdiff_t grain, ptrdiff_t work);

#endif
