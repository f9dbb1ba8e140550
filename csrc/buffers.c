#define _GNU_SOURCE
#include "buffers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    LINE = 64,
    PAGE = 4096,
    FIRST = 512,        /* the least offset in a page: other arrays often begin in its first bytes */
    STEP = 9 * LINE,    /* from one block's offset to the next one's: repeats after all 56 have been used */
    MAP_UNIT = 1 << 16, /* a multiple of any system's page */
    HUGE_PAGE = 1 << 21,
    MAPPED_FROM = 1 << 22,
    SLACK = 4 /* a block serves requests that it exceeds by up to a quarter */
};

/* Stands right before the data. */
typedef struct block {
    void *start;
    size_t mapped; /* bytes of the mapping; 0 for memory of malloc */
    size_t size;   /* bytes for the data */
    struct block *next;
    char padding[LINE - 4 * sizeof(void *)];
} block;

/* The size stands beside the pointer, so that a search touches no block. */
typedef struct {
    block *block;
    size_t size;
} entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows, up to the blank line */
static entry kept[BUFFERS_MAX_KEPT];                     /* in the order they came back */
static int count;
static size_t kept_bytes, limit;

static _Atomic unsigned turn;

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Starts at a huge page and has as many of them as fit. */
static char *map(size_t bytes)
{
    char *all = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (all == MAP_FAILED)
        return NULL;
    size_t before = round_up((uintptr_t)all, HUGE_PAGE) - (uintptr_t)all;
    if (before > 0)
        munmap(all, before);
    if (before < HUGE_PAGE)
        munmap(all + before + bytes, HUGE_PAGE - before);
#ifdef MADV_HUGEPAGE
    madvise(all + before, bytes, MADV_HUGEPAGE);
#endif
    return all + before;
}

static block *allocate(size_t size)
{
    size_t offset = FIRST + STEP * (size_t)atomic_fetch_add(&turn, 1) % (PAGE - FIRST);
    size_t mapped = size < MAPPED_FROM ? 0 : round_up(offset + size, MAP_UNIT);
    char *start = mapped ? map(mapped) : aligned_alloc(PAGE, round_up(offset + size, PAGE));
    if (start == NULL)
        return NULL;
    block *b = (block *)(start + offset) - 1;
    *b = (block){.start = start, .mapped = mapped, .size = size};
    return b;
}

static void release(block *b)
{
    while (b != NULL) {
        block *next = b->next;
        if (b->mapped)
            munmap(b->start, b->mapped);
        else
            free(b->start);
        b = next;
    }
}

static block *take_out(int i)
{
    block *b = kept[i].block;
    kept_bytes -= kept[i].size;
    count--;
    memmove(kept + i, kept + i + 1, (size_t)(count - i) * sizeof *kept);
    return b;
}

/* The oldest blocks, as a list, until no more than this is kept. */
static block *shrink(int most_blocks, size_t most_bytes)
{
    block *list = NULL;
    while (count > most_blocks || kept_bytes > most_bytes) {
        block *b = take_out(0);
        b->next = list;
        list = b;
    }
    return list;
}

void *buffer_take(size_t bytes)
{
    if (bytes > PTRDIFF_MAX - 2 * HUGE_PAGE)
        return NULL;
    size_t size = round_up(bytes, LINE), largest = size + size / SLACK;
    int best = -1;
    block *b = NULL;
    pthread_mutex_lock(&lock);
    /* Of equal ones the last to come back, which is the likeliest to be in the cache. */
    for (int i = count - 1; i >= 0 && (best < 0 || kept[best].size > size); i--)
        if (kept[i].size >= size && kept[i].size <= largest && (best < 0 || kept[i].size < kept[best].size))
            best = i;
    if (best >= 0)
        b = take_out(best);
    pthread_mutex_unlock(&lock);
    if (b == NULL)
        b = allocate(size);
    if (b == NULL) {
        buffers_empty();
        b = allocate(size);
    }
    return b == NULL ? NULL : b + 1;
}

void buffer_give(void *data)
{
    if (data == NULL)
        return;
    block *b = (block *)data - 1, *old;
    b->next = NULL;
    pthread_mutex_lock(&lock);
    if (b->size > limit) {
        old = b;
    } else {
        old = shrink(BUFFERS_MAX_KEPT - 1, limit - b->size);
        kept[count++] = (entry){b, b->size};
        kept_bytes += b->size;
    }
    pthread_mutex_unlock(&lock);
    release(old);
}

void buffers_set_limit(size_t bytes)
{
    pthread_mutex_lock(&lock);
    limit = bytes;
    block *old = shrink(BUFFERS_MAX_KEPT, limit);
    pthread_mutex_unlock(&lock);
    release(old);
}

size_t buffers_get_limit(void)
{
    pthread_mutex_lock(&lock);
    size_t bytes = limit;
    pthread_mutex_unlock(&lock);
    return bytes;
}

size_t buffers_kept(void)
{
    pthread_mutex_lock(&lock);
    size_t bytes = kept_bytes;
    pthread_mutex_unlock(&lock);
    return bytes;
}

void buffers_empty(void)
{
    pthread_mutex_lock(&lock);
    block *old = shrink(0, 0);
    pthread_mutex_unlock(&lock);
    release(old);
}

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

void buffers_init(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}
