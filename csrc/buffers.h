/* Memory for results: blocks that come back are kept, and given out again without a page fault. */
#ifndef NUMFUSE_BUFFERS_H
#define NUMFUSE_BUFFERS_H

#include <stddef.h>

/* To be called once, before anything else here. */
void buffers_init(void);

/* At least so many bytes of anything, aligned to 64, or NULL if there is no memory. Blocks begin at
 * different offsets of 512 to 4095 within a page: where an array that is written begins a little further
 * into its page than one that is read, loads wait for stores that they seem to depend on. */
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
