/* See scene.h. Keys are all zero, so that inputs can be sealed and a fuzzer gets past the tags. */

#include <netinet/in.h>

#include "scene.h"

static const uint8_t no_key[32], no_iv[AEAD_NONCE_BYTES];
static const uint8_t version[2] = {0xFE, 0xFD};

/* Web servers and names, pings both ways, no UDP besides. */
static const uint8_t policy[] = {
    0x0B, 6, 0, 0, 0, 0, 1, 0, 80, 31, 144, 0, 0x0F, 17, 4, 8, 10, 0, 0, 0, 0, 0, 1, 0, 53, 0, 53, 0,
    0x0E, 17, 0, 0, 0, 0, 0, 0, 0x0F, 1, 0, 0, 0, 0, 1, 0, 8, 0, 8, 0, 0x03, 0, 16, 16, 0xFD, 9,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
};

/* Each byte is read, which the sanitizers watch. */
static void look(const uint8_t *data, size_t size) {
    if (word_sum(data, size) > 65535)
        abort();
}

static void send_bursts(turn *turn, burst *bursts, unsigned burst_count) {
    for (unsigned at = 0; at < burst_count; at++) {
        look(bursts[at].data, bursts[at].size);
        if (bursts[at].datagrams > MOST_SEGMENTS || bursts[at].channel->tunnel == NULL ||
            (bursts[at].size + bursts[at].segment - 1) / bursts[at].segment != bursts[at].datagrams)
            abort();
    }
    ((scene *)turn->host)->bursts += burst_count;
}

/* What reaches the device is still what was judged. */
static void judge(const piece *piece) {
    size_t size = 0;
    const uint8_t *source = packet_source(piece->packet, piece->size, &size);
    const tunnel *tunnel = piece->tunnel;
    for (size_t at = 0; source != NULL && at < tunnel->own_count; at++)
        if (network_holds(&tunnel->own[at], source, size))
            return;
    abort();
}

static void write_items(turn *turn, merging *merging) {
    for (int number = 0; number < merging->item_count; number++) {
        const item *item = &merging->items[number];
        uint8_t frame_header[16], headers[MOST_HEADERS];
        size_t header = turn->engine->device_header, skipped = 0, pieces = 0;
        if (header)
            skipped = merging_headers(merging, item, frame_header, header, headers);
        for (int at = item->first; at >= 0; at = merging->pieces[at].next, pieces++) {
            look(merging->pieces[at].packet + skipped, merging->pieces[at].size - skipped);
            judge(&merging->pieces[at]);
        }
        if (pieces != (size_t)item->pieces)
            abort();
        look(headers, skipped);
    }
}

/* A peer that takes some and then nothing for a while. */
static void flush_stream(turn *turn, stream *stream) {
    scene *scene = turn->host;
    look(stream->unsent.bytes, stream->unsent.size);
    if (stream->unsent.size > 1 << 20)
        abort(); /* it may not grow without end */
    if (stream->is_lost)
        return;
    size_t takes = (size_t)scene->takes << 10;
    size_t sent = takes < stream->unsent.size ? takes : stream->unsent.size;
    scene->takes -= (unsigned)((sent + 1023) >> 10);
    memmove(stream->unsent.bytes, stream->unsent.bytes + sent, stream->unsent.size - sent);
    stream->unsent.size -= sent;
    stream->is_congested = stream->unsent.size > 0;
}

static const sinks nowhere = {send_bursts, write_items, flush_stream};

bool scene_open(scene *scene, size_t device_header) {
    *scene = (struct scene){.engine = engine_new(true, device_header, true), .takes = 1 << 20};
    if (scene->engine == NULL)
        return false;
    scene->turn = turn_new(scene->engine, &nowhere, scene);
    if (scene->turn == NULL) {
        engine_free(scene->engine);
        return false;
    }
    scene->turn->now = 1000;
    return true;
}

void scene_close(scene *scene) {
    turn_flush(scene->turn);
    turn_free(scene->turn);
    engine_free(scene->engine);
}

void scene_attach(scene *scene, uint8_t number) {
    network own[3] = {{4, 32, {10, 9, 0, number}},
                      {16, 128, {0xFD, 9, [15] = number}},
                      {4, 24, {10, number, 1, 0}}};
    tunnel *made = tunnel_new(number, MTU, own, 3, 2);
    if (made != NULL) {
        made->has_cstp = true;
        engine_attach(scene->engine, made);
    }
}

void scene_set_filter(scene *scene, uint8_t number) {
    tunnel *tunnel = engine_tunnel(scene->engine, number);
    if (tunnel == NULL)
        return;
    filter_free(tunnel->filter);
    tunnel->filter = filter_new(&scene->engine->rules, policy, sizeof policy);
}

peer_path scene_path(uint8_t number) {
    peer_path path = {.family = AF_INET, .port = 1000, .host = {192, 0, 2, (uint8_t)(number / 2)}};
    path.port = (uint16_t)(path.port + number);
    return path;
}

void scene_set_dtls(scene *scene, uint8_t number, bool is_foreign) {
    tunnel *tunnel = engine_tunnel(scene->engine, number);
    if (tunnel == NULL)
        return;
    channel *made = calloc(1, sizeof *made);
    if (made == NULL)
        return;
    made->path = scene_path(number);
    made->is_foreign = is_foreign;
    uint8_t read_iv[4] = {0, 0, 0, number};
    if (!is_foreign && !records_init(&made->records, version, 1, 0, AES_128_GCM, no_key, no_iv, no_key, read_iv)) {
        records_clear(&made->records);
        free(made);
    } else {
        engine_set_dtls(scene->engine, tunnel, made);
    }
}

void scene_set_tls(scene *scene, uint8_t number, bool is_tls13) {
    tunnel *tunnel = engine_tunnel(scene->engine, number);
    if (tunnel == NULL)
        return;
    stream *made = stream_new(is_tls13, AES_128_GCM, 0, 0);
    if (made == NULL)
        return;
    if (!stream_set_keys(made, true, no_key, no_iv) || !stream_set_keys(made, false, no_key, no_iv)) {
        stream_free(made);
        return;
    }
    engine_set_tls(scene->engine, tunnel, made);
    tunnel->has_cstp = true;
}

size_t scene_record(const scene *scene, uint8_t number, uint64_t sequence, uint8_t *at, const input *payload) {
    static records sealing[256];
    (void)scene;
    records *records = &sealing[number];
    uint8_t iv[4] = {0, 0, 0, number};
    if (!records->next && /* not there yet */
        !records_init(records, version, 1, 0, AES_128_GCM, no_key, iv, no_key, iv))
        abort();
    records->next = (uint64_t)1 << 48 | (sequence & 0xFFFFFFFFFFFF);
    size_t size = payload->size ? payload->size - 1 : 0;
    if (size)
        memcpy(at + PACKET_AT, payload->data + 1, size);
    return records_seal(records, at, payload->size ? payload->data[0] : 0, size);
}

size_t scene_tls_record(stream *stream, uint8_t type, uint8_t *at, const input *payload) {
    struct stream *peer = stream_new(stream->is_tls13, stream->cipher, stream->read_sequence, 0);
    if (!stream_set_keys(peer, true, no_key, no_iv))
        abort();
    uint8_t *room = stream_reserve(peer, payload->size);
    if (payload->size)
        memcpy(room, payload->data, payload->size);
    if (!stream_commit(peer, type, payload->size))
        abort();
    size_t size = peer->unsent.size;
    memcpy(at, peer->unsent.bytes, size);
    stream_free(peer);
    return size;
}

void scene_drain_events(scene *scene) {
    for (event *each = events_take(&scene->engine->events), *next; each != NULL; each = next) {
        next = each->next;
        look(each->bytes, each->size);
        free(each);
    }
}
