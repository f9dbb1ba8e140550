/* Memory for results: blocks that come back are kept, and given out again without a page fault. */
#ifndef ONEPASS_BUFFERS_H
#define ONEPASS_BUFFERS_H

#include <stddef.h>

/* To be called once, before anything else here. */
void buffers_init(void);

/* At least so many bytes of anything, aligned to 64, or NULL if there is no memory. Blocks begin at
 * different offsets within a page: a loop that stores to one array a little behind where it loads from
 * another, but for whole pages, waits for loads that seem to need the stores. */
void *buffer_take(size_t bytes);

/* From any thread; NULL is passed over. */
void buffer_give(void *data);

/* The most bytes to keep for reuse, 0 at first. Beyond it, or beyond BUFFERS_MAX_KEPT blocks, those that
 * came back first are freed. */
enum { BUFFERS_MAX_KEPT = 256 };
void buffers_set_limit(size_t bytes);
size_t buffers_get_limit(void);

/* Bytes that are kept; freeing them all. */
size_t buffers_kept(void);
void buffers_empty(void);

#endif
