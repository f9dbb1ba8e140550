/* The pool's promises: every element is visited once a job, by more than one thread; a second caller does
 * not wait; a forked child starts with one thread and can have more; workers take no signals and adopt
 * the caller's floating-point mode. With an argument it forks nothing: for the thread sanitizer. */
#define _GNU_SOURCE
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool.h"

enum { SIZE = 100000, JOBS = 300, PATIENCE = 2000000 };

static int failures;

static void expect(int held, const char *what)
{
    if (!held) {
        printf("failed: %s\n", what);
        failures++;
    }
}

static void visit(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    unsigned char *visits = *(unsigned char *const *)args;
    for (ptrdiff_t i = begin; i < end; i++)
        visits[i]++;
}

static void *visit_often(void *wrong)
{
    unsigned char *visits = calloc(SIZE, 1);
    for (int job = 1; job <= JOBS; job++) {
        pool_run(visit, &visits, SIZE, 777, POOL_THRESHOLD);
        for (ptrdiff_t i = 0; i < SIZE; i++)
            *(long *)wrong += visits[i] != job % 256;
    }
    free(visits);
    return NULL;
}

/* A job of two chunks that each wait until the other has begun: one thread alone would never see that. */
typedef struct {
    _Atomic int begun;
    _Atomic bool met;
    pthread_t caller;
    int rounding; /* in the worker */
    bool open;    /* whether it takes a signal */
} meeting;

static void meet(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    meeting *m = *(meeting *const *)args;
    if (end - begin == 2)
        return; /* not divided */
    atomic_fetch_add(&m->begun, 1);
    if (!pthread_equal(pthread_self(), m->caller)) {
        sigset_t blocked;
        pthread_sigmask(SIG_SETMASK, NULL, &blocked);
        m->open = !sigismember(&blocked, SIGINT) || !sigismember(&blocked, SIGTERM);
        m->rounding = fegetround();
    }
    for (long i = 0; i < PATIENCE && atomic_load(&m->begun) < 2; i++)
        sched_yield();
    if (atomic_load(&m->begun) == 2)
        atomic_store(&m->met, true);
}

static void expect_two_threads(const char *where)
{
    /* A thread is born with the mode of its creator: what counts is the mode of the job after that. */
    const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD};
    for (int i = 0; i < 3; i++) {
        meeting m = {.caller = pthread_self(), .rounding = -1}, *pointer = &m;
        fesetround(modes[i]);
        pool_run(meet, &pointer, 2, 1, POOL_THRESHOLD);
        fesetround(FE_TONEAREST);
        expect(m.met, where);
        expect(!m.open, "workers block signals");
        expect(m.rounding == modes[i], "workers adopt the caller's floating-point mode");
    }
}

/* A job whose chunks wait for a job of another thread to end: it must not wait for this one. */
static _Atomic bool inside, other_done, waited;

static void wait_for_other(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    (void)args, (void)begin, (void)end;
    atomic_store(&inside, true);
    for (long i = 0; i < PATIENCE && !atomic_load(&other_done); i++)
        sched_yield();
    if (!atomic_load(&other_done))
        atomic_store(&waited, true);
}

static void *hold_the_pool(void *unused)
{
    pool_run(wait_for_other, &unused, 2, 1, POOL_THRESHOLD);
    return NULL;
}

static void expect_no_waiting(void)
{
    pthread_t holder;
    unsigned char *visits = calloc(SIZE, 1);
    pthread_create(&holder, NULL, hold_the_pool, NULL);
    while (!atomic_load(&inside))
        sched_yield();
    pool_run(visit, &visits, SIZE, 777, POOL_THRESHOLD);
    atomic_store(&other_done, true);
    pthread_join(holder, NULL);
    expect(!atomic_load(&waited), "a second caller does not wait");
    free(visits);
}

int main(int count, char **arguments)
{
    long wrong[3] = {0, 0, 0};
    pthread_t thread;
    (void)arguments;
    pool_init();
    pool_set_threads(2);
    expect_two_threads("two threads at work");
    expect_no_waiting();
    pool_set_threads(3);
    pthread_create(&thread, NULL, visit_often, &wrong[0]);
    visit_often(&wrong[1]);
    pthread_join(thread, NULL);
    pool_set_threads(2);
    expect_two_threads("two threads at work after three");
    if (count == 1) {
        pid_t child = fork();
        if (child == 0) {
            failures = 0;
            expect(pool_get_threads() == 1, "one thread after a fork");
            pool_set_threads(2);
            expect_two_threads("two threads at work in the child");
            fflush(stdout);
            _exit(failures != 0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        expect(status == 0, "the child");
        expect_two_threads("two threads at work after a fork");
    }
    visit_often(&wrong[2]);
    expect(wrong[0] == 0 && wrong[1] == 0 && wrong[2] == 0, "every element visited once");
    return failures != 0;
}
