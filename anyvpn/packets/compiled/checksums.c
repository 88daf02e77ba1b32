/* The Internet's one's complement sums (RFC 1071). */

#include "engine.h"

/* Summing in the machine's order and swapping at the end gives the same (RFC 1071, section 2). */
static uint64_t swapped_if_little(uint64_t sum) {
    sum = (sum & 0xFFFFFFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    sum = (sum & 0xFF) << 8 | sum >> 8;
#endif
    return sum;
}

static uint64_t tail_sum(const uint8_t *data, size_t size) {
    uint64_t sum = 0;
    for (; size >= 2; size -= 2, data += 2) {
        uint16_t word;
        memcpy(&word, data, 2);
        sum += word;
    }
    if (size) {
        uint8_t last[2] = {data[0], 0};
        uint16_t word;
        memcpy(&word, last, 2);
        sum += word;
    }
    return sum;
}

uint64_t word_sum(const uint8_t *data, size_t size) {
    /* Two sums of 32-bit halves: no carry to look after, and compilers make vectors of it */
    uint64_t low = 0, high = 0;
    for (; size >= 32; size -= 32, data += 32) {
        uint64_t words[4];
        memcpy(words, data, sizeof words);
        for (int at = 0; at < 4; at++) {
            low += words[at] & 0xFFFFFFFF;
            high += words[at] >> 32;
        }
    }
    return swapped_if_little(low + high + tail_sum(data, size));
}

uint64_t copy_word_sum(uint8_t *to, const uint8_t *from, size_t size) {
    uint64_t low = 0, high = 0;
    for (; size >= 32; size -= 32, from += 32, to += 32) {
        uint64_t words[4];
        memcpy(words, from, sizeof words);
        memcpy(to, words, sizeof words);
        for (int at = 0; at < 4; at++) {
            low += words[at] & 0xFFFFFFFF;
            high += words[at] >> 32;
        }
    }
    memcpy(to, from, size);
    return swapped_if_little(low + high + tail_sum(from, size));
}

uint16_t checksum_of(uint64_t sum) {
    uint64_t rest = sum % 65535;
    return rest ? (uint16_t)(65535 - rest) : 0;
}
