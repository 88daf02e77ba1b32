/* Which DTLS channel the datagrams of an address belong to, and which has moved to it.
 *
 * A record from an unknown address is tried at channels of the same host first, then at some
 * others, each time the next ones; how often is bounded, for one host and for all. A record that
 * is older than one that was opened before moves nothing (RFC 9146, section 6).
 */

#include <stdlib.h>

#include "engine.h"

/* Ours, as in peers.py */
enum { TRIALS_PER_HOST_PER_S = 2048, TRIALS_PER_S = 16384, MOST_HOSTS = 4096 };

table_key host_key(const peer_path *path) {
    table_key key = {{0}};
    memcpy(key.bytes, path->host, sizeof path->host);
    key.bytes[16] = path->family;
    return key;
}

static table_key path_key(const peer_path *path) {
    table_key key = host_key(path);
    put16(key.bytes + 17, path->port);
    put16(key.bytes + 19, path->socket);
    memcpy(key.bytes + 21, &path->scope, sizeof path->scope);
    return key;
}

bool peers_init(peers *peers) {
    memset(peers, 0, sizeof *peers);
    peers->by_path = table_new();
    peers->by_host = table_new();
    peers->used_by_host = table_new();
    return peers->by_path != NULL && peers->by_host != NULL && peers->used_by_host != NULL;
}

void peers_clear(peers *peers) {
    table_free(peers->by_path);
    table_free(peers->by_host);
    table_free(peers->used_by_host);
}

static bool join_host(peers *peers, channel *channel) {
    table_key key = host_key(&channel->path);
    struct channel *head = table_find(peers->by_host, &key);
    if (!table_put(peers->by_host, &key, head == NULL ? channel : head))
        return false;
    if (head == NULL)
        head = channel->next_of_host = channel->previous_of_host = channel;
    channel->next_of_host = head;
    channel->previous_of_host = head->previous_of_host;
    head->previous_of_host->next_of_host = channel;
    head->previous_of_host = channel;
    return true;
}

static void leave_host(peers *peers, channel *channel) {
    table_key key = host_key(&channel->path);
    if (channel->next_of_host == channel) {
        table_remove(peers->by_host, &key);
    } else {
        if (table_find(peers->by_host, &key) == channel)
            table_put(peers->by_host, &key, channel->next_of_host);
        channel->next_of_host->previous_of_host = channel->previous_of_host;
        channel->previous_of_host->next_of_host = channel->next_of_host;
    }
}

static void leave_path(peers *peers, channel *channel) {
    table_key key = path_key(&channel->path);
    if (table_find(peers->by_path, &key) == channel)
        table_remove(peers->by_path, &key);
}

bool peers_add(peers *peers, channel *channel) {
    table_key key = path_key(&channel->path);
    if (!table_put(peers->by_path, &key, channel))
        return false;
    if (channel->is_foreign)
        return true;
    if (!join_host(peers, channel)) {
        leave_path(peers, channel);
        return false;
    }
    if (peers->ring == NULL)
        peers->ring = channel->next = channel->previous = channel;
    channel->next = peers->ring;
    channel->previous = peers->ring->previous;
    peers->ring->previous->next = channel;
    peers->ring->previous = channel;
    return true;
}

void peers_remove(peers *peers, channel *channel) {
    leave_path(peers, channel);
    if (channel->is_foreign)
        return;
    leave_host(peers, channel);
    if (peers->ring == channel)
        peers->ring = channel->next == channel ? NULL : channel->next;
    channel->next->previous = channel->previous;
    channel->previous->next = channel->next;
}

/* --- who has moved -------------------------------------------------------------------------- */

/* How often a record from this host may be tried now. */
static unsigned trials_of(peers *peers, const table_key *host, double now, unsigned *used) {
    if ((double)(int64_t)now != peers->second) {
        peers->second = (double)(int64_t)now;
        peers->left = TRIALS_PER_S;
        table *fresh = table_new();
        if (fresh != NULL) {
            table_free(peers->used_by_host);
            peers->used_by_host = fresh;
        }
    }
    /* The table holds numbers, one more than were used, where others hold pointers */
    uintptr_t kept = (uintptr_t)table_find(peers->used_by_host, host);
    if (!kept && table_count(peers->used_by_host) >= MOST_HOSTS)
        return 0;
    *used = kept ? (unsigned)kept - 1 : 0;
    unsigned left = TRIALS_PER_HOST_PER_S - *used;
    return left < peers->left ? left : peers->left;
}

static bool try_at(turn *turn, channel *channel, const uint8_t *record, size_t size, long *opened) {
    if (!records_hold_whole(&channel->records, record, size))
        return false;
    pthread_mutex_lock(&channel->tunnel->lock);
    *opened = records_open(&channel->records, record, size, turn->claimed);
    pthread_mutex_unlock(&channel->tunnel->lock);
    return *opened >= 0;
}

static channel *claimed_by(turn *turn, peers *peers, const table_key *host, const uint8_t *record,
                           size_t size, unsigned most, unsigned *tried, long *opened) {
    channel *first = table_find(peers->by_host, host);
    channel *at = first;
    while (at != NULL && *tried < most) {
        ++*tried;
        channel *next = at->next_of_host;
        if (try_at(turn, at, record, size, opened))
            return at;
        /* The next stranger begins where this one ended */
        table_put(peers->by_host, host, next);
        at = next == first ? NULL : next;
    }
    channel *begin = peers->ring;
    for (at = begin; at != NULL && *tried < most;) {
        table_key other = host_key(&at->path);
        channel *next = at->next;
        if (memcmp(&other, host, sizeof other) != 0) {
            ++*tried;
            if (try_at(turn, at, record, size, opened))
                return at;
        }
        peers->ring = next;
        at = next == begin ? NULL : next;
    }
    return NULL;
}

/* Sends to that path from now on, if no record that was opened is newer than this one. */
static void move(turn *turn, channel *channel, const peer_path *path, const uint8_t *record) {
    peers *peers = &turn->engine->peers;
    pthread_mutex_lock(&channel->tunnel->lock);
    bool is_late = (int64_t)record_sequence(record) < channel->records.highest;
    pthread_mutex_unlock(&channel->tunnel->lock);
    if (is_late)
        return;
    peer_path old = channel->path;
    leave_path(peers, channel);
    leave_host(peers, channel);
    pthread_mutex_lock(&channel->tunnel->lock);
    channel->path = *path;
    __atomic_store_n(&channel->longest_segment, 0, __ATOMIC_RELAXED);
    if (!join_host(peers, channel)) {
        channel->path = old; /* no memory: it stays where it was, in the room that it had */
        (void)join_host(peers, channel);
    }
    pthread_mutex_unlock(&channel->tunnel->lock);
    table_key key = path_key(&channel->path);
    table_put(peers->by_path, &key, channel);
    events_tell(&turn->engine->events, EVENT_MOVED, channel->tunnel, DTLS, 0, path, NULL, 0);
}

/* The frame in a payload; what is empty is none. */
static bool as_frame(frame *frame, const uint8_t *payload, size_t size) {
    if (size < KIND_BYTES)
        return false;
    frame->kind = payload[0];
    frame->payload = payload + KIND_BYTES;
    frame->size = size - KIND_BYTES;
    return true;
}

/* Whether a client has moved to this address: then its record is taken. */
static bool is_claimed(turn *turn, const peer_path *path, const uint8_t *record, size_t size) {
    engine *engine = turn->engine;
    peers *peers = &engine->peers;
    table_key host = host_key(path);
    unsigned used = 0, tried = 0;
    long opened = -1;
    pthread_mutex_lock(&engine->peers_lock);
    unsigned most = trials_of(peers, &host, turn->now, &used);
    channel *claimant = claimed_by(turn, peers, &host, record, size, most, &tried, &opened);
    if (tried) {
        peers->left -= tried;
        table_put(peers->used_by_host, &host, (void *)(uintptr_t)(used + tried + 1));
    }
    if (claimant != NULL)
        move(turn, claimant, path, record);
    pthread_mutex_unlock(&engine->peers_lock);
    if (claimant == NULL)
        return false;
    frame only;
    bool is_frame = as_frame(&only, turn->claimed, (size_t)opened);
    if (!is_frame)
        count(&claimant->tunnel->counters.malformed, 1);
    tunnel_take_frames(turn, claimant->tunnel, DTLS, &only, is_frame);
    turn_flush(turn); /* there is room for one such payload */
    return true;
}

/* --- what comes ----------------------------------------------------------------------------- */

static channel *find(engine *engine, const peer_path *path) {
    table_key key = path_key(path);
    pthread_mutex_lock(&engine->peers_lock);
    channel *found = table_find(engine->peers.by_path, &key);
    pthread_mutex_unlock(&engine->peers_lock);
    return found;
}

/* Opens whole records of `stride` bytes each, as many as follow each other; gives their bytes. */
static size_t open_records(turn *turn, channel *channel, uint8_t *data, size_t size, size_t stride) {
    tunnel *tunnel = channel->tunnel;
    frame frames[MOST_FRAMES];
    size_t at = 0, opened = 0, bad = 0;
    bool is_heard = false;
    pthread_mutex_lock(&tunnel->lock);
    while (at < size && opened < MOST_FRAMES) {
        size_t length = size - at < stride ? size - at : stride;
        uint8_t *record = data + at, *body = record + RECORD_HEADER_BYTES + NONCE_BYTES;
        if (!records_hold_whole(&channel->records, record, length))
            break;
        long payload = records_open(&channel->records, record, length, body);
        is_heard |= payload >= 0;
        if (payload >= 0 && as_frame(&frames[opened], body, (size_t)payload))
            opened++;
        else
            bad++;
        at += length;
    }
    pthread_mutex_unlock(&tunnel->lock);
    if (bad)
        count(&tunnel->counters.malformed, bad);
    if (is_heard)
        tunnel_take_frames(turn, tunnel, DTLS, frames, opened);
    return at;
}

/* Anything but one data record from a known address. */
static void other_datagram(turn *turn, const peer_path *path, uint8_t *datagram, size_t size) {
    size_t at = 0, kept = 0;
    for (int number = 0; number < MOST_RECORDS_IN_DATAGRAM && size - at >= RECORD_HEADER_BYTES; number++) {
        uint8_t *record = datagram + at;
        size_t length = RECORD_HEADER_BYTES + (size_t)get16(record + 11);
        if (length > RECORD_HEADER_BYTES + LONGEST_RECORD_BODY || length > size - at)
            break;
        at += length;
        channel *channel = find(turn->engine, path);
        bool is_data = record[0] == APPLICATION_DATA && get16(record + 3) != 0;
        if (channel != NULL && !channel->is_foreign &&
            records_hold_whole(&channel->records, record, length)) {
            open_records(turn, channel, record, length, length);
        } else if (channel != NULL || !is_data || !is_claimed(turn, path, record, length)) {
            if (record != datagram + kept)
                turn_flush(turn); /* packets in hand stand where this one goes */
            memmove(datagram + kept, record, length);
            kept += length;
        }
    }
    if (kept)
        events_tell(&turn->engine->events, EVENT_DATAGRAM, NULL, DTLS, 0, path, datagram, kept);
}

bool peers_receive_late(turn *turn, const peer_path *path, uint8_t *datagram, size_t size) {
    channel *channel = find(turn->engine, path);
    return channel != NULL && !channel->is_foreign &&
           open_records(turn, channel, datagram, size, size) == size;
}

void peers_receive(turn *turn, const peer_path *path, uint8_t *data, size_t size, size_t segment) {
    channel *channel = find(turn->engine, path);
    for (size_t at = 0; at < size;) {
        size_t length = size - at < segment ? size - at : segment;
        if (channel != NULL && channel->is_foreign) {
            events_tell(&turn->engine->events, EVENT_FOREIGN, channel->tunnel, DTLS, 0, path,
                        data + at, length);
            at += length;
            continue;
        }
        size_t opened = channel == NULL ? 0 : open_records(turn, channel, data + at, size - at, segment);
        at += opened;
        if (!opened) {
            other_datagram(turn, path, data + at, length);
            at += length;
            channel = find(turn->engine, path);
        }
    }
}
