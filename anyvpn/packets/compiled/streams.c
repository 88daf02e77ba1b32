/* CSTP over TLS: a connection whose handshake Python has done, from then on under its keys here.
 *
 *     TLS 1.3   23  3 3  length (2) | sealed: frame, 23                      | tag (16)
 *     TLS 1.2   23  3 3  length (2) | nonce (8, AES-GCM alone) sealed: frame | tag (16)
 *     frame     "STF" 1  length (2)  kind  0  packet
 *
 * Each packet of ours is a frame and a record of its own; what comes may be cut in any way. All
 * that is no application data goes up: closing, new keys, tickets. Between a change of the peer's
 * keys and the new ones nothing is opened.
 *
 * Source: RFC 8446, section 5.2; RFC 5246, section 6.2.3.3; RFC 5288; RFC 7905; protocol
 * reference, section 9.1.
 */

#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "engine.h"

/* From the protocol */
enum { LONGEST_FRAGMENT = 1 << 14, LONGEST_GROWTH_TLS12 = 2048, LONGEST_GROWTH_TLS13 = 256 };
static const uint8_t magic[4] = {'S', 'T', 'F', 1};
enum { WARNING = 1, FATAL = 2 };

/* Ours */
enum { SEND_AT_BYTES = 128 * 1024, MOST_UNSENT_CONTROLS = 64 * 1024 };
enum { MOST_UNSENT_MESSAGES = 256 * 1024 };
enum { SEQUENCES_PER_KEY = 1 << 23 }; /* AES-GCM: 2^24.5 records, RFC 8446, section 5.5 */

/* --- its life ------------------------------------------------------------------------------- */

stream *stream_new(bool is_tls13, enum cipher cipher, uint64_t write_sequence, uint64_t read_sequence) {
    stream *made = calloc(1, sizeof *made);
    if (made != NULL && (made->loss = event_new(LONGEST_REASON)) == NULL) {
        free(made);
        return NULL;
    }
    if (made != NULL) {
        made->descriptor = made->watcher = -1;
        made->is_tls13 = is_tls13;
        made->cipher = cipher;
        made->has_explicit_nonce = !is_tls13 && cipher != CHACHA20_POLY1305;
        made->write_sequence = write_sequence;
        made->read_sequence = read_sequence;
    }
    return made;
}

int stream_release(stream *stream) {
    int descriptor = stream->descriptor;
    if (stream->watcher >= 0)
        epoll_ctl(stream->watcher, EPOLL_CTL_DEL, descriptor, NULL);
    stream->descriptor = stream->watcher = -1;
    return descriptor;
}

void stream_free(stream *stream) {
    if (stream == NULL)
        return;
    assert(!stream->is_in_turn);
    int descriptor = stream_release(stream);
    if (descriptor >= 0)
        close(descriptor);
    aead_clear(&stream->seal);
    aead_clear(&stream->open);
    free(stream->record.bytes);
    free(stream->frame.bytes);
    free(stream->unsent.bytes);
    free(stream->loss);
    OPENSSL_cleanse(stream, sizeof *stream);
    free(stream);
}

bool stream_set_keys(stream *stream, bool seals, const uint8_t *key, const uint8_t iv[AEAD_NONCE_BYTES]) {
    aead fresh = {NULL, NULL};
    if (!aead_init(&fresh, stream->cipher, key, seals)) {
        aead_clear(&fresh);
        return false;
    }
    aead *kept = seals ? &stream->seal : &stream->open;
    aead_clear(kept);
    *kept = fresh;
    memcpy(seals ? stream->write_iv : stream->read_iv, iv, AEAD_NONCE_BYTES);
    return true;
}

static bool make_room(buffer *buffer, size_t more) {
    size_t wanted = buffer->size + more;
    if (wanted <= buffer->capacity)
        return true;
    size_t capacity = buffer->capacity ? buffer->capacity : 2048;
    while (capacity < wanted)
        capacity *= 2;
    uint8_t *bytes = realloc(buffer->bytes, capacity);
    if (bytes == NULL)
        return false;
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return true;
}

static void drop(buffer *buffer) {
    free(buffer->bytes);
    *buffer = (struct buffer){NULL, 0, 0};
}

/* --- nonces and what is covered ------------------------------------------------------------- */

static void put64(uint8_t *at, uint64_t value) {
    put32(at, (uint32_t)(value >> 32));
    put32(at + 4, (uint32_t)value);
}

static void mixed_nonce(uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *iv, uint64_t sequence) {
    uint8_t counted[8];
    put64(counted, sequence);
    memcpy(nonce, iv, AEAD_NONCE_BYTES);
    for (int at = 0; at < 8; at++)
        nonce[4 + at] ^= counted[at];
}

/* Gives the number of bytes: TLS 1.3 covers the header, TLS 1.2 number, type, version, plain size. */
static size_t write_covered(uint8_t covered[13], const stream *stream, const uint8_t *header,
                            uint64_t sequence, size_t plain) {
    if (stream->is_tls13) {
        memcpy(covered, header, TLS_HEADER_BYTES);
        return TLS_HEADER_BYTES;
    }
    put64(covered, sequence);
    memcpy(covered + 8, header, 3);
    put16(covered + 11, (unsigned)plain);
    return 13;
}

/* --- to the peer ---------------------------------------------------------------------------- */

static size_t nonce_bytes(const stream *stream) {
    return stream->has_explicit_nonce ? NONCE_BYTES : 0;
}

uint8_t *stream_reserve(stream *stream, size_t size) {
    if (!make_room(&stream->unsent, STREAM_OVERHEAD + size))
        return NULL;
    return stream->unsent.bytes + stream->unsent.size + TLS_HEADER_BYTES + nonce_bytes(stream);
}

bool stream_commit(stream *stream, uint8_t type, size_t size) {
    uint8_t *header = stream->unsent.bytes + stream->unsent.size;
    size_t before = nonce_bytes(stream), plain = size;
    uint8_t *data = header + TLS_HEADER_BYTES + before;
    uint8_t nonce[AEAD_NONCE_BYTES], covered[13];
    if (stream->is_tls13)
        data[plain++] = type;
    header[0] = stream->is_tls13 ? APPLICATION_DATA : type;
    header[1] = header[2] = 3;
    put16(header + 3, (unsigned)(before + plain + TAG_BYTES));
    if (stream->has_explicit_nonce) {
        put64(header + TLS_HEADER_BYTES, stream->write_sequence);
        memcpy(nonce, stream->write_iv, 4);
        put64(nonce + 4, stream->write_sequence);
    } else {
        mixed_nonce(nonce, stream->write_iv, stream->write_sequence);
    }
    size_t covered_size = write_covered(covered, stream, header, stream->write_sequence, plain);
    if (!aead_seal(&stream->seal, nonce, covered, covered_size, data, plain))
        return false;
    stream->write_sequence++;
    stream->unsent.size += TLS_HEADER_BYTES + before + plain + TAG_BYTES;
    return true;
}

bool stream_wants_keys(const stream *stream) {
    return stream->is_tls13 && stream->write_sequence % SEQUENCES_PER_KEY == SEQUENCES_PER_KEY - 1;
}

void stream_frame(uint8_t *at, uint8_t kind, size_t size) {
    memcpy(at, magic, sizeof magic);
    put16(at + 4, (unsigned)size);
    at[6] = kind;
    at[7] = 0;
}

bool stream_is_full(const stream *stream) {
    return stream->unsent.size >= SEND_AT_BYTES;
}

/* A goodbye always: it is the last. */
bool stream_takes_control(const stream *stream, uint8_t kind) {
    bool has_room = !stream->is_congested || stream->unsent.size < MOST_UNSENT_CONTROLS;
    return !stream->is_lost && (has_room || kind == DISCONNECT);
}

bool stream_takes_message(const stream *stream) {
    return !stream->is_lost && stream->unsent.size < MOST_UNSENT_MESSAGES;
}

/* Sends what there is; gives an errno when the connection is gone. Under the tunnel's lock. */
int stream_send(stream *stream) {
    size_t at = 0;
    int error = 0;
    while (at < stream->unsent.size) {
        ssize_t sent = send(stream->descriptor, stream->unsent.bytes + at, stream->unsent.size - at,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0) {
            error = errno == EAGAIN || errno == ENOBUFS ? 0 : errno;
            break;
        }
        at += (size_t)sent;
    }
    if (at == stream->unsent.size) {
        drop(&stream->unsent);
        stream->is_congested = false;
    } else {
        memmove(stream->unsent.bytes, stream->unsent.bytes + at, stream->unsent.size - at);
        stream->unsent.size -= at;
        stream->is_congested = true;
    }
    return error;
}

size_t stream_end(stream *stream, enum alert alert) {
    if (stream->is_lost)
        alert = stream->alert;
    if (alert == NO_ALERT)
        return 0;
    uint8_t *at = stream_reserve(stream, 2);
    if (at != NULL) {
        at[0] = alert == CLOSE_NOTIFY || alert == NO_RENEGOTIATION ? WARNING : FATAL;
        at[1] = (uint8_t)alert;
        stream_commit(stream, TLS_ALERT, 2);
    }
    return stream->unsent.size;
}

/* --- from the peer -------------------------------------------------------------------------- */

/* Why a stream cannot go on, and what its peer is told; without a reason it goes on. */
typedef struct {
    const char *why;
    enum alert alert;
} problem;

static const problem none = {NULL, NO_ALERT};
static const problem no_memory = {"no memory", INTERNAL_ERROR};
static const problem unexpected = {"TLS failed: unexpected message", UNEXPECTED_MESSAGE};
static const problem no_type = {"TLS failed: bad record type", UNEXPECTED_MESSAGE};
static const problem forged = {"TLS failed: decryption failed or bad record mac", BAD_RECORD_MAC};
static const problem too_long = {"TLS failed: record too long", RECORD_OVERFLOW};
static const problem no_frame = {"not a CSTP frame", CLOSE_NOTIFY};

typedef struct content {
    int type;
    uint8_t *data;
    size_t size;
} content;

/* Whether a record can begin so. */
static problem check_header(const stream *stream, const uint8_t *header) {
    size_t growth = stream->is_tls13 ? LONGEST_GROWTH_TLS13 : LONGEST_GROWTH_TLS12;
    if (stream->is_tls13 && header[0] != APPLICATION_DATA)
        return no_type;
    if (header[1] != 3)
        return (problem){"TLS failed: wrong version number", stream->is_tls13 ? DECODE_ERROR : PROTOCOL_VERSION};
    return get16(header + 3) > LONGEST_FRAGMENT + growth ? too_long : none;
}

/* Opens one whole record in place. */
static problem open_record(stream *stream, uint8_t *record, size_t size, content *content) {
    size_t before = nonce_bytes(stream), overhead = TLS_HEADER_BYTES + before + TAG_BYTES;
    uint8_t nonce[AEAD_NONCE_BYTES], covered[13];
    if (size < overhead)
        return forged;
    size_t plain = size - overhead;
    uint8_t *data = record + TLS_HEADER_BYTES + before;
    if (stream->has_explicit_nonce) {
        memcpy(nonce, stream->read_iv, 4);
        memcpy(nonce + 4, record + TLS_HEADER_BYTES, NONCE_BYTES);
    } else {
        mixed_nonce(nonce, stream->read_iv, stream->read_sequence);
    }
    size_t covered_size = write_covered(covered, stream, record, stream->read_sequence, plain);
    if (!aead_open(&stream->open, nonce, covered, covered_size, data, plain, data))
        return forged;
    stream->read_sequence++;
    int type = record[0];
    if (stream->is_tls13) {
        while (plain && !data[plain - 1])
            plain--; /* padding */
        if (!plain)
            return no_type;
        type = data[--plain];
    }
    *content = (struct content){type, data, plain};
    return plain > LONGEST_FRAGMENT ? too_long : none;
}

/* The reactor may have given the tunnel another stream by the time that it hears. */
static bool tell(turn *turn, stream *stream, enum event_type type, const uint8_t *data, size_t size) {
    return events_tell(&turn->engine->events, type, stream->tunnel, CSTP, stream->number, NULL, data, size);
}

void stream_lose(turn *turn, stream *stream, enum alert alert, const char *why) {
    if (atomic_exchange(&stream->is_lost, true)) /* another thread may find it at the same moment */
        return;
    stream->alert = alert;
    event *loss = stream->loss;
    size_t size = strlen(why);
    stream->loss = NULL;
    events_tell_by(&turn->engine->events, loss, EVENT_LOST_STREAM, stream->tunnel, CSTP, stream->number, NULL,
                   (const uint8_t *)why, size < LONGEST_REASON ? size : LONGEST_REASON);
}

/* Hands whole frames over, and gives how many bytes they were; -1: what comes is no frame. */
static long take_frames(turn *turn, stream *stream, const uint8_t *data, size_t size) {
    frame frames[MOST_FRAMES];
    size_t at = 0, frame_count = 0;
    while (size - at >= FRAME_HEADER_BYTES) {
        const uint8_t *header = data + at;
        size_t length = get16(header + 4);
        if (memcmp(header, magic, sizeof magic) != 0 || header[7] || length > LONGEST_FRAGMENT)
            return -1;
        if (length > size - at - FRAME_HEADER_BYTES)
            break;
        frames[frame_count++] = (frame){header + FRAME_HEADER_BYTES, length, header[6]};
        at += FRAME_HEADER_BYTES + length;
        if (frame_count == MOST_FRAMES) {
            tunnel_take_frames(turn, stream->tunnel, CSTP, frames, frame_count);
            frame_count = 0;
        }
    }
    if (frame_count)
        tunnel_take_frames(turn, stream->tunnel, CSTP, frames, frame_count);
    return (long)at;
}

static bool keep_rest(buffer *buffer, const uint8_t *data, size_t size) {
    if (!make_room(buffer, size))
        return false;
    memcpy(buffer->bytes + buffer->size, data, size);
    buffer->size += size;
    return true;
}

bool stream_begin_frame(stream *stream, const uint8_t *data, size_t size) {
    return !size || keep_rest(&stream->frame, data, size);
}

/* Application data, which may begin and end within a frame. */
static problem take_data(turn *turn, stream *stream, const uint8_t *data, size_t size) {
    buffer *rest = &stream->frame;
    if (!rest->size) {
        long taken = take_frames(turn, stream, data, size);
        if (taken < 0)
            return no_frame;
        bool is_kept = (size_t)taken == size || keep_rest(rest, data + taken, size - (size_t)taken);
        return is_kept ? none : no_memory;
    }
    if (!keep_rest(rest, data, size))
        return no_memory;
    long taken = take_frames(turn, stream, rest->bytes, rest->size);
    if (taken < 0)
        return no_frame;
    turn_flush(turn); /* packets in hand point into what is moved now */
    if ((size_t)taken == rest->size) {
        drop(rest);
    } else {
        memmove(rest->bytes, rest->bytes + taken, rest->size - (size_t)taken);
        rest->size -= (size_t)taken;
    }
    return none;
}

/* What came in a record of another type goes up. */
static problem take_other(turn *turn, stream *stream, int type, const uint8_t *data, size_t size) {
    if (type == TLS_ALERT && size != 2)
        return unexpected;
    if (type == TLS_ALERT)
        return data[1] == CLOSE_NOTIFY ? (problem){"the peer closed the TLS connection", CLOSE_NOTIFY}
                                       : (problem){"TLS failed: the peer sent an alert", NO_ALERT};
    if (type == TLS_HANDSHAKE && !stream->is_tls13)
        return (problem){"TLS failed: no renegotiation", NO_RENEGOTIATION};
    if (type != TLS_HANDSHAKE || !size) /* RFC 8446, section 5.1 */
        return unexpected;
    /* The reactor says when to go on, with new keys or old ones */
    stream->waits_for_keys = tell(turn, stream, EVENT_HANDSHAKE, data, size);
    return stream->waits_for_keys ? none : no_memory;
}

/* Opens the whole records of `data`, in place; what is left over is kept. */
static void take_records(turn *turn, stream *stream, uint8_t *data, size_t size) {
    size_t at = 0;
    problem problem = none;
    while (!problem.why && !stream->is_lost && !stream->waits_for_keys && size - at >= TLS_HEADER_BYTES) {
        size_t record = TLS_HEADER_BYTES + get16(data + at + 3);
        problem = check_header(stream, data + at);
        if (problem.why || record > size - at)
            break;
        content content;
        problem = open_record(stream, data + at, record, &content);
        if (!problem.why && content.type == APPLICATION_DATA)
            problem = take_data(turn, stream, content.data, content.size);
        else if (!problem.why)
            problem = take_other(turn, stream, content.type, content.data, content.size);
        at += record;
    }
    if (!problem.why && at < size && !keep_rest(&stream->record, data + at, size - at))
        problem = no_memory;
    if (problem.why)
        stream_lose(turn, stream, problem.alert, problem.why);
}

size_t stream_receive(turn *turn, stream *stream, uint8_t *room) {
    if (stream->is_lost || stream->waits_for_keys)
        return 0;
    size_t kept = stream->record.size;
    ssize_t received = recv(stream->descriptor, room + STREAM_ROOM, STREAM_ROOM, MSG_DONTWAIT);
    if (received < 0) {
        if (errno != EAGAIN && errno != EINTR)
            stream_lose(turn, stream, NO_ALERT, "the connection was lost");
        return 0;
    }
    if (received == 0) {
        stream_lose(turn, stream, NO_ALERT, "the peer closed the connection");
        return 0;
    }
    /* What was kept is put right before what came */
    uint8_t *begin = room + STREAM_ROOM - kept;
    if (kept)
        memcpy(begin, stream->record.bytes, kept);
    drop(&stream->record);
    take_records(turn, stream, begin, kept + (size_t)received);
    turn_flush(turn);
    return (size_t)received;
}

void stream_go_on(turn *turn, stream *stream, const uint8_t *more, size_t size) {
    stream->waits_for_keys = false;
    size_t kept = stream->record.size;
    uint8_t *data = malloc(kept + size + 1);
    if (data == NULL) {
        stream_lose(turn, stream, no_memory.alert, no_memory.why);
        return;
    }
    if (kept)
        memcpy(data, stream->record.bytes, kept);
    if (size)
        memcpy(data + kept, more, size);
    drop(&stream->record);
    take_records(turn, stream, data, kept + size);
    turn_flush(turn);
    free(data);
}
