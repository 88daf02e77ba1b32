/* See failing_memory.h. */

#include <errno.h>

#include "failing_memory.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
int __real_posix_memalign(void **made, size_t alignment, size_t size);
void __real_free(void *old);

bool memory_fails, memory_fails_on;
long memory_left;
atomic_long memory_held;

static bool fails(void) {
    bool is_over = memory_left == 0;
    if (!memory_fails || (!is_over && --memory_left) || (is_over && !memory_fails_on))
        return false;
    errno = ENOMEM;
    return true;
}

static void *held(void *made) {
    if (made != NULL)
        memory_held++;
    return made;
}

void *__wrap_malloc(size_t size) { return fails() ? NULL : held(__real_malloc(size)); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : held(__real_calloc(count, size)); }

void *__wrap_realloc(void *old, size_t size) {
    if (fails())
        return NULL;
    return old == NULL ? held(__real_realloc(old, size)) : __real_realloc(old, size);
}

int __wrap_posix_memalign(void **made, size_t alignment, size_t size) {
    int error = fails() ? ENOMEM : __real_posix_memalign(made, alignment, size);
    if (!error)
        memory_held++;
    return error;
}

void __wrap_free(void *old) {
    if (old != NULL)
        memory_held--;
    __real_free(old);
}
