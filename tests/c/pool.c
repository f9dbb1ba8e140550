/* Jobs from two threads at once, with forks in between; every element must be visited exactly once a
 * job. Meant to be built with -fsanitize=thread as well. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool.h"

enum { SIZE = 100000, JOBS = 300 };

static void visit(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    unsigned char *visits = *(unsigned char *const *)args;
    for (ptrdiff_t i = begin; i < end; i++)
        visits[i]++;
}

static void *caller(void *argument)
{
    unsigned char *visits = calloc(SIZE, 1);
    long wrong = 0;
    for (int job = 1; job <= JOBS; job++) {
        pool_run(visit, &visits, SIZE, 777, POOL_THRESHOLD);
        for (ptrdiff_t i = 0; i < SIZE; i++)
            wrong += visits[i] != job % 256;
    }
    free(visits);
    *(long *)argument = wrong;
    return NULL;
}

int main(int count, char **arguments)
{
    long wrong[2] = {1, 1}, alone = 1;
    pthread_t thread;
    (void)arguments;
    pool_init();
    pool_set_threads(3);
    pthread_create(&thread, NULL, caller, &wrong[0]);
    caller(&wrong[1]);
    pthread_join(thread, NULL);
    pid_t child = count > 1 ? -1 : fork();
    if (child == 0) {
        if (pool_get_threads() != 1)
            _exit(2);
        pool_set_threads(2);
        caller(&alone);
        _exit(alone != 0);
    }
    int status = 0;
    if (child > 0)
        waitpid(child, &status, 0);
    caller(&alone);
    printf("%ld %ld %ld wrong, child %d\n", wrong[0], wrong[1], alone, status);
    return wrong[0] || wrong[1] || alone || status;
}
