/* DTLS records under AES-GCM: sealed, opened, and refused the second time.
 *
 *     type (1)  version (2)  epoch and sequence (8)  length (2)
 *     explicit nonce (8, the same as epoch and sequence)  kind (1) and packet, sealed  tag (16)
 *
 * A record that does not authenticate changes nothing. The window is a ring of bits, a bit for
 * each sequence number modulo its size.
 *
 * Source: RFC 6347, section 4.1; RFC 5288.
 */

#include <openssl/crypto.h>

#include "engine.h"

enum { SEQUENCE_BITS = 48, FIXED_IV_BYTES = 4, AAD_BYTES = 13 };
enum { SMALLEST_RECORD = RECORD_HEADER_BYTES + NONCE_BYTES + TAG_BYTES };

bool records_init(records *records, const uint8_t version[2], uint16_t epoch, uint64_t sequence,
                  enum cipher cipher, const uint8_t *write_key, const uint8_t write_iv[4],
                  const uint8_t *read_key, const uint8_t read_iv[4]) {
    memset(records, 0, sizeof *records);
    records->head[0] = APPLICATION_DATA;
    memcpy(records->head + 1, version, 2);
    put16(records->head + 3, epoch);
    records->next = (uint64_t)epoch << SEQUENCE_BITS | sequence;
    records->end = ((uint64_t)epoch + 1) << SEQUENCE_BITS;
    records->highest = -1;
    memcpy(records->write_iv, write_iv, FIXED_IV_BYTES);
    memcpy(records->read_iv, read_iv, FIXED_IV_BYTES);
    return aead_init(&records->seal, cipher, write_key, true) &&
           aead_init(&records->open, cipher, read_key, false);
}

void records_clear(records *records) {
    aead_clear(&records->seal);
    aead_clear(&records->open);
    OPENSSL_cleanse(records, sizeof *records);
}

bool records_hold_whole(const records *records, const uint8_t *datagram, size_t size) {
    return size >= RECORD_HEADER_BYTES && memcmp(datagram, records->head, 5) == 0 &&
           get16(datagram + 11) == size - RECORD_HEADER_BYTES;
}

static void put64(uint8_t *at, uint64_t value) {
    put32(at, (uint32_t)(value >> 32));
    put32(at + 4, (uint32_t)value);
}

/* What is authenticated beside the payload: epoch and sequence, type, version, plain length. */
static void write_aad(uint8_t aad[AAD_BYTES], const records *records, const uint8_t *sequence, size_t plain) {
    memcpy(aad, sequence, 8);
    memcpy(aad + 8, records->head, 3);
    put16(aad + 11, (unsigned)plain);
}

size_t records_seal(records *records, uint8_t *at, uint8_t kind, size_t size) {
    size_t plain = KIND_BYTES + size;
    if (records->next >= records->end)
        return 0;
    uint8_t aad[AAD_BYTES];
    memcpy(at, records->head, 3);
    put64(at + 3, records->next);
    put16(at + 11, (unsigned)(NONCE_BYTES + plain + TAG_BYTES));
    memcpy(at + RECORD_HEADER_BYTES, at + 3, NONCE_BYTES);
    memcpy(records->write_iv + FIXED_IV_BYTES, at + 3, NONCE_BYTES);
    write_aad(aad, records, at + 3, plain);
    records->next++;
    uint8_t *body = at + RECORD_HEADER_BYTES + NONCE_BYTES;
    body[0] = kind;
    if (!aead_seal(&records->seal, records->write_iv, aad, AAD_BYTES, body, plain))
        return 0;
    return RECORD_OVERHEAD + size;
}

static bool was_seen(const records *records, int64_t number) {
    if (number < records->highest - (WINDOW_RECORDS - 1))
        return true;
    if (number > records->highest)
        return false;
    unsigned bit = (unsigned)number & (WINDOW_RECORDS - 1);
    return records->seen[bit / 64] >> (bit % 64) & 1;
}

static void see(records *records, int64_t number) {
    if (number - records->highest >= WINDOW_RECORDS) {
        memset(records->seen, 0, sizeof records->seen);
    } else {
        for (int64_t skipped = records->highest + 1; skipped < number; skipped++) {
            unsigned bit = (unsigned)skipped & (WINDOW_RECORDS - 1);
            records->seen[bit / 64] &= ~((uint64_t)1 << (bit % 64));
        }
    }
    if (number > records->highest)
        records->highest = number;
    unsigned bit = (unsigned)number & (WINDOW_RECORDS - 1);
    records->seen[bit / 64] |= (uint64_t)1 << (bit % 64);
}

long records_open(records *records, const uint8_t *record, size_t size, uint8_t *out) {
    if (size < SMALLEST_RECORD || size > RECORD_HEADER_BYTES + LONGEST_RECORD_BODY)
        return -1;
    int64_t number = (int64_t)record_sequence(record);
    if (was_seen(records, number))
        return -1;
    size_t plain = size - SMALLEST_RECORD;
    uint8_t aad[AAD_BYTES];
    const uint8_t *body = record + RECORD_HEADER_BYTES + NONCE_BYTES;
    memcpy(records->read_iv + FIXED_IV_BYTES, record + RECORD_HEADER_BYTES, NONCE_BYTES);
    write_aad(aad, records, record + 3, plain);
    if (!aead_open(&records->open, records->read_iv, aad, AAD_BYTES, body, plain, out))
        return -1;
    see(records, number);
    return (long)plain;
}
