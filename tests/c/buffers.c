/* The promises of buffers.c: blocks in use are apart, aligned, and begin at different offsets in a page; one
 * that came back serves requests it exceeds by a quarter at most; the oldest are freed beyond the limits; a
 * child forked amid all this can go on. With an argument it forks nothing: for the thread sanitizer. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "buffers.h"

enum { HELD = 8, ROUNDS = 3000, THREADS = 3, FORKS = 200, MIB = 1 << 20 };

static int failures;

static void expect(int held, const char *what)
{
    if (!held) {
        printf("failed: %s\n", what);
        failures++;
    }
}

/* Blocks pass between threads through these slots, so that many are given by another thread than took them. */
static _Atomic(unsigned char *) slots[HELD];
static _Atomic int wrong;
static _Atomic bool forking;

/* A block of its size in the first 8 bytes, and of one value in the others. */
static void stamp(unsigned char *data, size_t size)
{
    memset(data, (int)(size % 251), size);
    memcpy(data, &size, sizeof size);
}

static void check(const unsigned char *data)
{
    size_t size;
    memcpy(&size, data, sizeof size);
    for (size_t i = sizeof size; i < size; i++)
        if (data[i] != size % 251) {
            atomic_fetch_add(&wrong, 1);
            return;
        }
}

static void *take_and_give(void *seed)
{
    uint32_t random = *(uint32_t *)seed;
    for (int round = 0; round < ROUNDS || atomic_load(&forking); round++) {
        random = random * 1664525 + 1013904223;
        size_t size = 8 + (random >> 8) % 20000;
        unsigned char *data = buffer_take(size);
        stamp(data, size);
        data = atomic_exchange(&slots[random >> 29], data);
        if (data != NULL)
            check(data);
        buffer_give(data);
        if (round % 1000 == 0)
            buffers_empty();
    }
    return NULL;
}

static void expect_blocks_apart(int forks)
{
    pthread_t threads[THREADS];
    uint32_t seeds[THREADS] = {1, 2, 3};
    atomic_store(&forking, forks > 0);
    buffers_set_limit(HELD * 10000);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, take_and_give, &seeds[i]);
    for (int i = 0; i < forks && failures == 0; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(10);
            buffer_give(buffer_take(10000));
            _exit(0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        expect(status == 0, "a forked child");
    }
    atomic_store(&forking, false);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < HELD; i++)
        buffer_give(atomic_exchange(&slots[i], NULL));
    expect(atomic_load(&wrong) == 0, "blocks in use are apart");
    expect(buffers_kept() <= buffers_get_limit(), "the limit holds among threads");
}

static void expect_alignment_and_offsets(size_t size)
{
    enum { OFFSETS = (4096 - 512) / 64 };
    char *data[OFFSETS];
    bool used[4096 / 64] = {false};
    buffers_empty();
    for (int i = 0; i < OFFSETS; i++) {
        data[i] = buffer_take(size);
        size_t offset = (uintptr_t)data[i] % 4096;
        expect(offset % 64 == 0 && offset >= 512, "aligned to 64 bytes, 512 bytes into a page");
        expect(!used[offset / 64], "different offsets in a page");
        used[offset / 64] = true;
        data[i][0] = data[i][size - 1] = 1;
    }
    for (int i = 0; i < OFFSETS; i++)
        buffer_give(data[i]);
}

static void expect_reuse(size_t size)
{
    buffers_set_limit(16 * size);
    buffers_empty();
    void *large = buffer_take(size + size / 4), *small = buffer_take(size), *again;
    buffer_give(small);
    buffer_give(large);
    again = buffer_take(size);
    expect(again == small, "the best fit");
    buffer_give(again);
    again = buffer_take(size - 1);
    expect(again == small, "a little less");
    void *second = buffer_take(size);
    expect(second == large, "a quarter larger");
    expect(buffers_kept() == 0, "nothing is left");
    buffer_give(second);
    void *third = buffer_take(size - 64);
    expect(third != large, "more than a quarter larger");
    buffer_give(third);
    buffer_give(again);
    buffers_empty();
    expect(buffers_kept() == 0, "emptied");
}

static void expect_oldest_freed(void)
{
    void *blocks[4], *many[BUFFERS_MAX_KEPT + 1], *again;
    buffers_set_limit(3 * MIB);
    for (int i = 0; i < 4; i++)
        blocks[i] = buffer_take((size_t)MIB - 4096 * (size_t)i);
    for (int i = 0; i < 4; i++)
        buffer_give(blocks[i]);
    expect(buffers_kept() == 3 * MIB - 4096 * (1 + 2 + 3), "the oldest block is freed beyond the limit");
    buffers_set_limit(MIB - 4096 * 3);
    expect(buffers_kept() == MIB - 4096 * 3, "a lower limit frees the oldest");
    again = buffer_take(MIB - 4096 * 3);
    expect(again == blocks[3], "the newest stays");
    buffers_set_limit(0);
    buffer_give(again);
    expect(buffers_kept() == 0, "nothing is kept with a limit of 0");

    buffers_set_limit(MIB);
    for (int i = 0; i <= BUFFERS_MAX_KEPT; i++)
        many[i] = buffer_take(i == 0 ? 128 : 64);
    for (int i = 0; i <= BUFFERS_MAX_KEPT; i++)
        buffer_give(many[i]);
    expect(buffers_kept() == 64 * BUFFERS_MAX_KEPT, "the oldest block is freed beyond the number");
}

int main(int count, char **arguments)
{
    (void)arguments;
    buffers_init();
    expect_blocks_apart(count == 1 ? FORKS : 0);
    expect_alignment_and_offsets(1);
    expect_alignment_and_offsets(100000);
    expect_alignment_and_offsets(4 * MIB);
    expect_reuse(1024);
    expect_reuse(6 * MIB);
    expect_oldest_freed();
    expect(buffer_take(SIZE_MAX) == NULL && buffer_take(SIZE_MAX / 2 - 8 * MIB) == NULL, "no memory");
    buffers_empty();
    return failures != 0;
}
