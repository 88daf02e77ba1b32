/* What a filter makes of any rules and any packets, from both sides. */

#include "scene.h"

enum { MOST_RULE_BYTES = 1024 };

static void put(uint8_t *at, size_t *used, const uint8_t *bytes, size_t size) {
    memcpy(at + *used, bytes, size);
    *used += size;
}

static void put_network(uint8_t *at, size_t *used, uint8_t what) {
    uint8_t near = what & 1, prefix = (uint8_t)(what >> 3);
    if (what & 2)
        put(at, used, (uint8_t[]){4, prefix, 10, near, 0, 1}, 6);
    else if (what & 4)
        put(at, used, (uint8_t[18]){16, (uint8_t)(prefix * 4), 0xFD, near, [17] = 1}, 18);
    else
        put(at, used, (uint8_t[]){0, 0}, 2);
}

/* Rules as they may be, or half of the time anything. */
static size_t make_rules(uint8_t *at, input *input) {
    size_t used = 0;
    uint8_t how = take_byte(input);
    if (how & 1) {
        struct input some = take_some(input, how);
        put(at, &used, some.data, some.size);
        return used;
    }
    for (int left = 1 + (how >> 1) % 8; left > 0; left--) {
        static const uint8_t protocols[4] = {1, 6, 17, 58};
        uint8_t flags = take_byte(input), port = flags >> 4;
        put(at, &used, (uint8_t[]){flags & 15, protocols[take_byte(input) & 3]}, 2);
        put_network(at, &used, take_byte(input));
        put_network(at, &used, take_byte(input));
        put(at, &used, (uint8_t[]){port & 1, 0, port, 0, (uint8_t)(port + 3)}, port & 1 ? 5 : 1);
        put(at, &used, (uint8_t[]){port & 2 ? 1 : 0, 0, 0, 0, port}, port & 2 ? 5 : 1);
    }
    return used;
}

/* Most packets are of hosts that rules are about. */
static void aim(uint8_t *packet, size_t size, uint8_t how) {
    uint8_t near = how & 1;
    if (size < 20 || how & 2)
        return;
    if (how & 4) {
        packet[0] = (uint8_t)(0x45 + (how >> 7));
        memcpy(packet + 12, (uint8_t[]){10, near, 0, 1, 10, !near, 0, 1}, 8);
    } else if (size >= 40) {
        packet[0] = 0x60;
        memcpy(packet + 8, (uint8_t[32]){0xFD, near, [15] = 1, 0xFD, !near, [31] = 1}, 32);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t rule_bytes[MOST_RULE_BYTES];
    input input = {data, size};
    rules *all = NULL;
    size_t used = make_rules(rule_bytes, &input);
    uint8_t *exact = malloc(used + 1); /* so that one byte too many is seen */
    memcpy(exact, rule_bytes, used);
    filter *filter = filter_new(&all, exact, used), *other = filter_new(&all, exact, used);
    free(exact);
    double now = 1000;
    while (filter != NULL && input.size) {
        uint8_t how = take_byte(&input), length = take_byte(&input), times = how & 64 ? 64 : 1;
        struct input some = take_some(&input, length);
        uint8_t *packet = malloc(some.size + 1), *copy = malloc(some.size);
        memcpy(packet, some.data, some.size);
        aim(packet, some.size, how);
        for (; times > 0; times--) {
            if (some.size > 24) /* another flow each time */
                packet[some.size > 40 && packet[0] >> 4 == 6 ? 41 : 21] ^= times;
            memcpy(copy, packet, some.size);
            bool passes = filter_passes(filter, copy, some.size, how & 8, now);
            if (filter_passes(filter, copy, some.size, how & 8, now) != passes)
                abort(); /* what has passed passes, and what has not opens nothing */
        }
        free(packet);
        free(copy);
        now += how & 16 ? 50 : how & 32 ? 500 : 0;
    }
    filter_free(filter);
    filter_free(other);
    if (all != NULL)
        abort(); /* nobody has them any more */
    return 0;
}
