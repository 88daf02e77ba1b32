/* Memory of the engine's that cannot be had: the linker leads its calls here (--wrap). */

#ifndef ANYVPN_FUZZ_FAILING_MEMORY_H
#define ANYVPN_FUZZ_FAILING_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

extern bool memory_fails;       /* or all can be had, as ever */
extern bool memory_fails_on;    /* with all that follow, or one allocation alone */
extern long memory_left;        /* allocations until one fails; 0: it has */
extern atomic_long memory_held; /* blocks */

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **made, size_t alignment, size_t size);
void __wrap_free(void *old);

#endif
