/* A hash table with open addressing: keys of 40 bytes, values that are not NULL.
 *
 * Whoever is out there chooses addresses and ports, so the hash is seeded.
 */

#include <stdlib.h>
#include <sys/random.h>

#include "engine.h"

typedef struct {
    table_key key;
    void *value; /* NULL: free */
} slot;

struct table {
    slot *slots;
    size_t count, capacity; /* a power of two, at most half of it in use */
    uint64_t seed;
};

enum { SMALLEST_CAPACITY = 16 };

static uint64_t mixed(uint64_t value) {
    value ^= value >> 32;
    value *= 0xD6E8FEB86659FD93u;
    value ^= value >> 32;
    return value;
}

uint64_t key_hash(const table_key *key, uint64_t seed) {
    uint64_t words[5], hash = seed;
    memcpy(words, key->bytes, sizeof words);
    for (int at = 0; at < 5; at++)
        hash = mixed(hash ^ words[at]) * 0x9E3779B97F4A7C15u;
    return hash >> 20;
}

static size_t place_of(const table *table, const table_key *key) {
    return (size_t)key_hash(key, table->seed) & (table->capacity - 1);
}

static slot *slot_of(const table *table, const table_key *key) {
    size_t at = place_of(table, key);
    while (table->slots[at].value != NULL && memcmp(&table->slots[at].key, key, sizeof *key) != 0)
        at = (at + 1) & (table->capacity - 1);
    return &table->slots[at];
}

table *table_new(void) {
    table *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->capacity = SMALLEST_CAPACITY;
    made->slots = calloc(made->capacity, sizeof *made->slots);
    if (made->slots == NULL || getrandom(&made->seed, sizeof made->seed, 0) != sizeof made->seed) {
        table_free(made);
        return NULL;
    }
    return made;
}

void table_free(table *table) {
    if (table != NULL) {
        free(table->slots);
        free(table);
    }
}

void *table_find(const table *table, const table_key *key) {
    return slot_of(table, key)->value;
}

static bool grow(table *table) {
    slot *old = table->slots;
    size_t capacity = table->capacity;
    slot *slots = calloc(capacity * 2, sizeof *slots);
    if (slots == NULL)
        return false;
    table->slots = slots;
    table->capacity = capacity * 2;
    for (size_t at = 0; at < capacity; at++)
        if (old[at].value != NULL)
            *slot_of(table, &old[at].key) = old[at];
    free(old);
    return true;
}

bool table_put(table *table, const table_key *key, void *value) {
    slot *slot = slot_of(table, key);
    if (slot->value == NULL) {
        if ((table->count + 1) * 2 > table->capacity) {
            if (!grow(table))
                return false;
            slot = slot_of(table, key);
        }
        slot->key = *key;
        table->count++;
    }
    slot->value = value;
    return true;
}

void table_remove(table *table, const table_key *key) {
    slot *hole = slot_of(table, key);
    if (hole->value == NULL)
        return;
    hole->value = NULL;
    table->count--;
    /* Whatever stands further on because this place was taken moves up */
    size_t mask = table->capacity - 1, empty = (size_t)(hole - table->slots);
    for (size_t at = (empty + 1) & mask; table->slots[at].value != NULL; at = (at + 1) & mask) {
        size_t wanted = place_of(table, &table->slots[at].key);
        if (((at - wanted) & mask) >= ((at - empty) & mask)) {
            table->slots[empty] = table->slots[at];
            table->slots[at].value = NULL;
            empty = at;
        }
    }
}

void table_clear(table *table) {
    /* What was full once is small again after a time of little use */
    slot *small = NULL;
    if (table->capacity > SMALLEST_CAPACITY && table->count * 8 < table->capacity)
        small = calloc(SMALLEST_CAPACITY, sizeof *small);
    if (small != NULL) {
        free(table->slots);
        table->slots = small;
        table->capacity = SMALLEST_CAPACITY;
    } else if (table->count) {
        memset(table->slots, 0, table->capacity * sizeof *table->slots);
    }
    table->count = 0;
}

size_t table_count(const table *table) {
    return table->count;
}

void *table_next(const table *table, size_t *at) {
    while (*at < table->capacity) {
        void *value = table->slots[(*at)++].value;
        if (value != NULL)
            return value;
    }
    return NULL;
}
