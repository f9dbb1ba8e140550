/* Every thread that takes part in a job owns a run of consecutive chunks and takes them one by one from
 * the front; when its own are gone it takes from the others'. So no one waits for a thread that has not
 * woken up or has lost its CPU, unless that thread is in the middle of a chunk. */
#define _GNU_SOURCE
#include "pool.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { SPINS = 2000, WORKER_STACK = 1 << 19 };

typedef struct {
    task *run;
    const void *args;
    ptrdiff_t size, grain;
    uint64_t chunks;
    int threads;
    uint32_t number;       /* jobs are numbered, so that a late worker sees that its job is over */
    fenv_t floating_point; /* the caller's, for the workers to adopt */
} job;

/* Job number in the high half, the owner's next chunk in the low one. */
typedef struct {
    _Alignas(64) _Atomic uint64_t next;
} owner;

static pthread_mutex_t entry = PTHREAD_MUTEX_INITIALIZER; /* held by the caller whose job is running */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* guards what follows, up to the blank line */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static job current;
static int sleeping;
static bool stopping;

static owner owners[POOL_MAX_THREADS];
static _Atomic uint32_t newest;     /* current.number, for spinning on */
static _Atomic uint64_t unfinished; /* chunks of the current job */
static _Atomic int threads = 1;
static int workers; /* guarded by entry */
static pthread_t handles[POOL_MAX_THREADS];

static uint64_t first_chunk(const job *j, int thread)
{
    return j->chunks * (uint64_t)thread / (uint64_t)j->threads;
}

static void run_chunk(const job *j, uint64_t chunk)
{
    ptrdiff_t begin = (ptrdiff_t)chunk * j->grain;
    ptrdiff_t end = j->size - begin < j->grain ? j->size : begin + j->grain;
    j->run(j->args, begin, end);
    if (atomic_fetch_sub(&unfinished, 1) == 1) {
        pthread_mutex_lock(&lock);
        pthread_cond_signal(&done);
        pthread_mutex_unlock(&lock);
    }
}

static void take_part(const job *j, int self)
{
    for (int k = 0; k < j->threads; k++) {
        int victim = (self + k) % j->threads;
        uint64_t end = first_chunk(j, victim + 1), next = atomic_load(&owners[victim].next);
        while (next >> 32 == j->number && (next & 0xFFFFFFFF) < end) {
            if (atomic_compare_exchange_weak(&owners[victim].next, &next, next + 1)) {
                run_chunk(j, next & 0xFFFFFFFF);
                next = atomic_load(&owners[victim].next);
            }
        }
    }
}

static void *work(void *argument)
{
    int self = (int)(intptr_t)argument;
    uint32_t seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&newest) == seen; i++)
            cpu_relax();
        pthread_mutex_lock(&lock);
        sleeping++;
        while (current.number == seen && !stopping)
            pthread_cond_wait(&wake, &lock);
        sleeping--;
        job j = current;
        bool stop = stopping;
        pthread_mutex_unlock(&lock);
        if (stop)
            return NULL;
        seen = j.number;
        if (self < j.threads) {
            fesetenv(&j.floating_point);
            take_part(&j, self);
        }
    }
}

/* Signals are the host program's affair: workers are started with all of them blocked. */
static void start_workers(int wanted)
{
    if (workers >= wanted)
        return;
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK);
    while (workers < wanted &&
           pthread_create(&handles[workers], &attributes, work, (void *)(intptr_t)(workers + 1)) == 0)
        workers++;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void stop_workers(void)
{
    pthread_mutex_lock(&lock);
    stopping = true;
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&lock);
    for (; workers > 0; workers--)
        pthread_join(handles[workers - 1], NULL);
    stopping = false;
}

static void before_fork(void)
{
    pthread_mutex_lock(&entry);
    stop_workers();
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&entry);
}

static void after_fork_in_child(void)
{
    pthread_mutex_init(&entry, NULL);
    atomic_store(&threads, 1);
}

void pool_init(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void pool_set_threads(int n)
{
    atomic_store(&threads, n);
}

int pool_get_threads(void)
{
    return atomic_load(&threads);
}

void pool_run(task *run, const void *args, ptrdiff_t size, ptrdiff_t grain, int64_t work_in_ps)
{
    int wanted = atomic_load(&threads);
    if (wanted == 1 || work_in_ps < POOL_THRESHOLD || size <= grain || pthread_mutex_trylock(&entry) != 0) {
        run(args, 0, size);
        return;
    }
    if (workers > wanted - 1)
        stop_workers(); /* each one that is left over would be woken for every job */
    start_workers(wanted - 1);
    uint64_t chunks = (uint64_t)((size - 1) / grain + 1);
    int most = workers + 1 < wanted ? workers + 1 : wanted;
    job j = {.run = run, .args = args, .size = size, .grain = grain, .chunks = chunks};
    j.threads = chunks < (uint64_t)most ? (int)chunks : most;
    fegetenv(&j.floating_point);

    pthread_mutex_lock(&lock);
    j.number = current.number + 1;
    atomic_store(&unfinished, chunks);
    for (int i = 0; i < j.threads; i++)
        atomic_store(&owners[i].next, (uint64_t)j.number << 32 | first_chunk(&j, i));
    current = j;
    atomic_store(&newest, j.number);
    if (sleeping)
        pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&lock);

    take_part(&j, 0);
    for (int i = 0; i < SPINS && atomic_load(&unfinished); i++)
        cpu_relax();
    pthread_mutex_lock(&lock);
    while (atomic_load(&unfinished))
        pthread_cond_wait(&done, &lock);
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&entry);
}
