/* The engine: its tables, and what enters them and leaves. */

#include <stdlib.h>

#include "engine.h"

static table_key tunnel_key(uint64_t identifier) {
    table_key key = {{0}};
    memcpy(key.bytes, &identifier, sizeof identifier);
    return key;
}

engine *engine_new(bool follows_client, size_t device_header, bool takes_datagrams) {
    engine *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->follows_client = follows_client;
    made->device_header = device_header;
    if (device_header)
        made->merged = takes_datagrams ? MERGED_DATAGRAMS : MERGED_SEGMENTS;
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    /* Whoever moves packets takes the lock again at once: the reactor would wait for ever */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    bool is_made = pthread_rwlock_init(&made->tables, &attributes) == 0 &&
                   pthread_mutex_init(&made->peers_lock, NULL) == 0 && events_init(&made->events);
    pthread_rwlockattr_destroy(&attributes);
    made->tunnels = table_new();
    if (!is_made || made->tunnels == NULL || !routes_init(&made->routes) || !peers_init(&made->peers)) {
        engine_free(made);
        return NULL;
    }
    return made;
}

void engine_free(engine *engine) {
    size_t at = 0;
    if (engine->tunnels != NULL)
        for (tunnel *each; (each = table_next(engine->tunnels, &at)) != NULL;)
            tunnel_free(each);
    table_free(engine->tunnels);
    routes_clear(&engine->routes);
    peers_clear(&engine->peers);
    events_clear(&engine->events);
    pthread_mutex_destroy(&engine->peers_lock);
    pthread_rwlock_destroy(&engine->tables);
    free(engine);
}

tunnel *engine_tunnel(engine *engine, uint64_t identifier) {
    table_key key = tunnel_key(identifier);
    return table_find(engine->tunnels, &key);
}

bool engine_attach(engine *engine, tunnel *tunnel) {
    table_key key = tunnel_key(tunnel->identifier);
    engine_detach(engine, tunnel->identifier);
    if (!table_put(engine->tunnels, &key, tunnel)) {
        tunnel_free(tunnel);
        return false;
    }
    for (size_t at = 0; at < tunnel->own_count; at++) {
        if (!routes_add(&engine->routes, &tunnel->own[at], tunnel)) {
            engine_detach(engine, tunnel->identifier);
            return false;
        }
    }
    return true;
}

void engine_detach(engine *engine, uint64_t identifier) {
    table_key key = tunnel_key(identifier);
    tunnel *tunnel = table_find(engine->tunnels, &key);
    if (tunnel == NULL)
        return;
    table_remove(engine->tunnels, &key);
    for (size_t at = 0; at < tunnel->own_count; at++)
        routes_remove(&engine->routes, &tunnel->own[at], tunnel);
    if (tunnel->dtls != NULL)
        peers_remove(&engine->peers, tunnel->dtls);
    tunnel_free(tunnel);
}

void engine_set_tls(engine *engine, tunnel *tunnel, stream *stream) {
    (void)engine;
    stream_free(tunnel->tls);
    tunnel->tls = stream;
    if (stream != NULL) {
        stream->tunnel = tunnel;
        stream->number = ++tunnel->streams;
    }
    memset(&tunnel->times[CSTP], 0, sizeof tunnel->times[CSTP]);
}

bool engine_set_dtls(engine *engine, tunnel *tunnel, channel *channel) {
    struct channel *old = tunnel->dtls;
    if (old != NULL) {
        peers_remove(&engine->peers, old);
        if (!old->is_foreign)
            records_clear(&old->records);
        free(old);
    }
    tunnel->dtls = NULL;
    tunnel->is_quiet = false;
    memset(&tunnel->times[DTLS], 0, sizeof tunnel->times[DTLS]);
    if (channel == NULL)
        return true;
    channel->tunnel = tunnel;
    if (!peers_add(&engine->peers, channel)) {
        if (!channel->is_foreign)
            records_clear(&channel->records);
        free(channel);
        return false;
    }
    tunnel->dtls = channel;
    return true;
}

void engine_take_frame(turn *turn, uint8_t *frame, size_t size) {
    engine *engine = turn->engine;
    segments segments;
    if (!segments_begin(&segments, frame, size, engine->device_header))
        return;
    size_t address_bytes = 0;
    const uint8_t *destination = packet_destination(segments.packet, segments.size, &address_bytes);
    tunnel *tunnel = destination == NULL ? NULL : routes_find(&engine->routes, destination, address_bytes);
    if (tunnel == NULL)
        count(&engine->unroutable, 1);
    else
        tunnel_forward(turn, tunnel, &segments);
}
