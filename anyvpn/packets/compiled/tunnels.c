/* One tunnel on the packet path: its channel, what waits for it, what it has moved.
 *
 * Packets go over DTLS unless the client sends its own over CSTP (protocol reference, section
 * 13.3), else over CSTP. They wait, some of them, for a stream of the reactor's and while there is
 * no channel at all.
 */

#include <stdlib.h>

#include "engine.h"

/* --- its life ------------------------------------------------------------------------------- */

tunnel *tunnel_new(uint64_t identifier, size_t mtu, const network *own, size_t own_count,
                   size_t address_count) {
    tunnel *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->own = calloc(own_count ? own_count : 1, sizeof *own);
    if (made->own == NULL || pthread_mutex_init(&made->lock, NULL) != 0) {
        free(made->own);
        free(made);
        return NULL;
    }
    memcpy(made->own, own, own_count * sizeof *own);
    made->identifier = identifier;
    made->mtu = mtu;
    made->own_count = own_count;
    made->address_count = address_count;
    for (size_t at = address_count; at-- > 0;) {
        if (made->own[at].size == 4)
            made->ipv4 = made->own[at].address;
        else
            made->ipv6 = made->own[at].address;
    }
    return made;
}

static packet_node *pop(tunnel *tunnel) {
    packet_node *node = tunnel->waiting;
    if (node != NULL) {
        tunnel->waiting = node->next;
        tunnel->waiting_count--;
    }
    return node;
}

void tunnel_free(tunnel *tunnel) {
    for (packet_node *node; (node = pop(tunnel)) != NULL;)
        free(node);
    if (tunnel->dtls != NULL && !tunnel->dtls->is_foreign)
        records_clear(&tunnel->dtls->records);
    free(tunnel->dtls);
    stream_free(tunnel->tls);
    filter_free(tunnel->filter);
    pthread_mutex_destroy(&tunnel->lock);
    free(tunnel->own);
    free(tunnel);
}

/* --- to its client -------------------------------------------------------------------------- */

static bool goes_by_dtls(const tunnel *tunnel) {
    const channel *dtls = tunnel->dtls;
    return dtls != NULL && !dtls->is_spent && !(tunnel->is_quiet && tunnel->has_cstp);
}

static enum way way_of(const tunnel *tunnel) {
    if (goes_by_dtls(tunnel))
        return tunnel->dtls->is_foreign ? WAY_REACTOR : WAY_DTLS;
    if (tunnel->tls != NULL)
        return tunnel->tls->is_lost || tunnel->tls->is_congested ? WAY_WAIT : WAY_TLS;
    return tunnel->has_cstp ? WAY_REACTOR : WAY_WAIT;
}

bool tunnel_needs_reactor(const tunnel *tunnel, bool *by_dtls) {
    *by_dtls = goes_by_dtls(tunnel);
    return way_of(tunnel) == WAY_REACTOR;
}

static packet_node *new_node(size_t size) {
    packet_node *node = malloc(sizeof *node + size);
    if (node != NULL) {
        node->next = NULL;
        node->size = size;
    }
    return node;
}

static void append(tunnel *tunnel, packet_node *node) {
    if (tunnel->waiting == NULL)
        tunnel->waiting = node;
    else
        tunnel->last_waiting->next = node;
    tunnel->last_waiting = node;
    tunnel->waiting_count++;
}

bool tunnel_wait(tunnel *tunnel, const uint8_t *packet, size_t size, bool first) {
    packet_node *node = new_node(size);
    if (node == NULL)
        return false;
    memcpy(node->bytes, packet, size);
    if (!first || tunnel->waiting == NULL) {
        append(tunnel, node);
    } else {
        node->next = tunnel->waiting;
        tunnel->waiting = node;
        tunnel->waiting_count++;
    }
    return true;
}

/* Whether the reactor has said that its stream takes nothing, and that is the way. */
static bool is_stuck(const tunnel *tunnel) {
    return tunnel->is_congested && !goes_by_dtls(tunnel);
}

static void ask_reactor(turn *turn, tunnel *tunnel) {
    if (tunnel->asked_reactor || is_stuck(tunnel) || !tunnel->waiting_count)
        return;
    tunnel->asked_reactor =
        events_tell(&turn->engine->events, EVENT_WAITING, tunnel, CSTP, 0, NULL, NULL, 0);
}

static void spend(turn *turn, tunnel *tunnel) {
    tunnel->dtls->is_spent = true;
    events_tell(&turn->engine->events, EVENT_SPENT, tunnel, DTLS, 0, NULL, NULL, 0);
}

/* Seals what stands in the room that was reserved. */
static void seal(turn *turn, tunnel *tunnel, uint8_t *at, uint8_t kind, size_t size) {
    size_t record = records_seal(&tunnel->dtls->records, at, kind, size);
    if (!record) {
        spend(turn, tunnel);
        return;
    }
    turn_commit(turn, tunnel->dtls, record, kind == DATA ? size : 0, kind == DATA);
    set_time(&tunnel->times[DTLS].sent_at, turn->now);
}

/* The same for TLS, where a frame's header stands before. */
static void seal_frame(turn *turn, tunnel *tunnel, uint8_t *at, uint8_t kind, size_t size) {
    stream *tls = tunnel->tls;
    stream_frame(at, kind, size);
    if (!stream_commit(tls, APPLICATION_DATA, FRAME_HEADER_BYTES + size)) {
        stream_lose(turn, tls, NO_ALERT, "TLS failed: nothing can be sealed");
        return;
    }
    if (stream_wants_keys(tls))
        events_tell(&turn->engine->events, EVENT_OLD_KEYS, tunnel, CSTP, tls->number, NULL, NULL, 0);
    set_time(&tunnel->times[CSTP].sent_at, turn->now);
    turn_send_stream(turn, tls);
    if (kind == DATA) {
        count(&tunnel->counters.sent_packets, 1);
        count(&tunnel->counters.sent_bytes, size);
    }
    if (stream_is_full(tls))
        turn->sinks->flush(turn, tls);
}

static void send_waiting(turn *turn, tunnel *tunnel) {
    for (enum way way; tunnel->waiting_count && ((way = way_of(tunnel)) == WAY_DTLS || way == WAY_TLS);) {
        packet_node *node = pop(tunnel);
        if (way == WAY_DTLS) {
            uint8_t *at = turn_reserve(turn, RECORD_OVERHEAD + node->size);
            memcpy(at + PACKET_AT, node->bytes, node->size);
            seal(turn, tunnel, at, DATA, node->size);
        } else {
            uint8_t *at = stream_reserve(tunnel->tls, FRAME_HEADER_BYTES + node->size);
            if (at != NULL) {
                memcpy(at + FRAME_HEADER_BYTES, node->bytes, node->size);
                seal_frame(turn, tunnel, at, DATA, node->size);
            } else {
                count(&tunnel->counters.queue_full, 1);
            }
        }
        free(node);
    }
    if (way_of(tunnel) == WAY_REACTOR)
        ask_reactor(turn, tunnel);
}

void tunnel_send_waiting(turn *turn, tunnel *tunnel) {
    pthread_mutex_lock(&tunnel->lock);
    send_waiting(turn, tunnel);
    pthread_mutex_unlock(&tunnel->lock);
}

/* The next segment into the queue, where there is room. */
static void let_wait(turn *turn, tunnel *tunnel, enum way way, segments *segments, size_t size) {
    bool is_taken = way == WAY_REACTOR && !is_stuck(tunnel);
    size_t most = is_taken ? MOST_WAITING_FOR_REACTOR : MOST_WAITING;
    packet_node *node = tunnel->waiting_count < most ? new_node(size) : NULL;
    segments_write(segments, node == NULL ? turn->scratch : node->bytes);
    if (node == NULL)
        count(&tunnel->counters.queue_full, 1);
    else
        append(tunnel, node);
}

static void send_segments(turn *turn, tunnel *tunnel, segments *segments) {
    if (tunnel->waiting_count)
        send_waiting(turn, tunnel);
    bool any = false;
    for (size_t size; (size = segments_next(segments)) != 0;) {
        if (size > tunnel->mtu) {
            segments_write(segments, turn->scratch);
            events_tell(&turn->engine->events, EVENT_TOO_LONG, tunnel, CSTP, 0, NULL,
                        turn->scratch, size);
            continue;
        }
        any = true;
        enum way way = way_of(tunnel);
        if (way == WAY_DTLS) {
            uint8_t *at = turn_reserve(turn, RECORD_OVERHEAD + size);
            segments_write(segments, at + PACKET_AT);
            seal(turn, tunnel, at, DATA, size);
        } else if (way == WAY_TLS) {
            uint8_t *at = stream_reserve(tunnel->tls, FRAME_HEADER_BYTES + size);
            segments_write(segments, at == NULL ? turn->scratch : at + FRAME_HEADER_BYTES);
            if (at != NULL)
                seal_frame(turn, tunnel, at, DATA, size);
            else
                count(&tunnel->counters.queue_full, 1);
        } else {
            let_wait(turn, tunnel, way, segments, size);
        }
    }
    if (any)
        set_time(&tunnel->counters.data_at, turn->now);
    if (way_of(tunnel) == WAY_REACTOR)
        ask_reactor(turn, tunnel);
}

void tunnel_send(turn *turn, tunnel *tunnel, segments *segments) {
    pthread_mutex_lock(&tunnel->lock);
    send_segments(turn, tunnel, segments);
    pthread_mutex_unlock(&tunnel->lock);
}

/* Segments of one packet have the same headers, but for what no rule is about. */
static bool may_come(const turn *turn, tunnel *tunnel, const segments *segments) {
    size_t size = segments->headers ? segments->headers : segments->size;
    if (tunnel->filter == NULL || filter_passes(tunnel->filter, segments->packet, size, false, turn->now))
        return true;
    count(&tunnel->counters.filtered, segments_count(segments));
    return false;
}

void tunnel_forward(turn *turn, tunnel *tunnel, segments *segments) {
    pthread_mutex_lock(&tunnel->lock);
    if (may_come(turn, tunnel, segments))
        send_segments(turn, tunnel, segments);
    pthread_mutex_unlock(&tunnel->lock);
}

static void probed(turn *turn, tunnel *tunnel, enum channel_name name) {
    tunnel->times[name].probed_at = turn->now;
    tunnel->times[name].awaits_answer = true;
}

void tunnel_send_control(turn *turn, tunnel *tunnel, enum channel_name name, uint8_t kind,
                         const uint8_t *payload, size_t size) {
    if (size > LONGEST_CONTROL)
        return;
    pthread_mutex_lock(&tunnel->lock);
    const channel *dtls = tunnel->dtls;
    uint8_t *at = NULL;
    if (name == DTLS && dtls != NULL && !dtls->is_foreign && !dtls->is_spent) {
        at = turn_reserve(turn, RECORD_OVERHEAD + size);
        memcpy(at + PACKET_AT, payload, size);
        seal(turn, tunnel, at, kind, size);
    } else if (name == CSTP && tunnel->tls != NULL && stream_takes_control(tunnel->tls, kind)) {
        at = stream_reserve(tunnel->tls, FRAME_HEADER_BYTES + size);
        if (at != NULL) {
            memcpy(at + FRAME_HEADER_BYTES, payload, size);
            seal_frame(turn, tunnel, at, kind, size);
        }
    }
    if (at != NULL && kind == DPD_REQUEST)
        probed(turn, tunnel, name);
    if (tunnel->waiting_count)
        send_waiting(turn, tunnel); /* sending at once may have made room, which nobody else sees */
    pthread_mutex_unlock(&tunnel->lock);
}

/* --- from its client ------------------------------------------------------------------------ */

static void heard(turn *turn, tunnel *tunnel, enum channel_name name) {
    pthread_mutex_lock(&tunnel->lock);
    set_time(&tunnel->times[name].received_at, turn->now);
    if (name == DTLS && tunnel->is_quiet) {
        tunnel->is_quiet = false;
        send_waiting(turn, tunnel); /* what waits for CSTP is older than what comes next */
    }
    pthread_mutex_unlock(&tunnel->lock);
}

static void probe_answered(turn *turn, tunnel *tunnel, enum channel_name name) {
    channel_times *times = &tunnel->times[name];
    pthread_mutex_lock(&tunnel->lock);
    if (times->awaits_answer) { /* an answer to nothing tells nothing */
        times->awaits_answer = false;
        times->round_trip = turn->now - times->probed_at;
    }
    pthread_mutex_unlock(&tunnel->lock);
}

/* It is the client that chooses the channel: its data over CSTP makes DTLS quiet. */
static void chosen(turn *turn, tunnel *tunnel) {
    pthread_mutex_lock(&tunnel->lock);
    tunnel->is_quiet = tunnel->dtls != NULL && turn->engine->follows_client;
    pthread_mutex_unlock(&tunnel->lock);
}

/* The reactor may have given the tunnel another stream by the time that it hears. */
static unsigned stream_number(const tunnel *tunnel, enum channel_name name) {
    return name == CSTP && tunnel->tls != NULL ? tunnel->tls->number : 0;
}

void tunnel_take_frames(turn *turn, tunnel *tunnel, enum channel_name name, const frame *frames,
                        size_t frame_count) {
    slice packets[MOST_FRAMES];
    size_t packet_count = 0;
    const frame *last_probe = NULL;
    heard(turn, tunnel, name);
    for (size_t at = 0; at < frame_count; at++) {
        const frame *frame = &frames[at];
        switch (frame->kind) {
        case DATA:
            packets[packet_count++] = (slice){frame->payload, frame->size};
            break;
        case DPD_REQUEST:
            last_probe = frame;
            break;
        case DPD_RESPONSE:
            probe_answered(turn, tunnel, name);
            break;
        case KEEPALIVE:
            break;
        default:
            events_tell(&turn->engine->events, EVENT_CONTROL, tunnel, name,
                        (uint16_t)(frame->kind | stream_number(tunnel, name) << 8), NULL, frame->payload,
                        frame->size);
        }
    }
    if (packet_count) {
        if (name == CSTP)
            chosen(turn, tunnel);
        tunnel_take_packets(turn, tunnel, packets, packet_count);
    }
    /* One answer shows that we are there; a flood of probes is not worth more */
    if (last_probe != NULL)
        tunnel_send_control(turn, tunnel, name, DPD_RESPONSE, last_probe->payload, last_probe->size);
}

static bool is_own(const tunnel *tunnel, const uint8_t *address, size_t size) {
    const uint8_t *first = size == 4 ? tunnel->ipv4 : tunnel->ipv6;
    if (first != NULL && memcmp(first, address, size) == 0)
        return true;
    for (size_t at = 0; at < tunnel->own_count; at++)
        if (network_holds(&tunnel->own[at], address, size))
            return true;
    return false;
}

/* Link-local and unspecified: every IPv6 host sends some. */
static bool is_not_routed(const uint8_t *address, size_t size) {
    return size == 16 && ((address[0] == 0xFE && address[1] == 0x80) || (!address[0] && !address[1]));
}

/* Whether the client may send it; what it may not is counted. */
static bool accepts(tunnel *tunnel, const slice *packet) {
    size_t size = 0;
    const uint8_t *source = packet_source(packet->bytes, packet->size, &size);
    if (source == NULL)
        count(&tunnel->counters.malformed, 1);
    else if (is_own(tunnel, source, size))
        return true;
    else if (is_not_routed(source, size))
        count(&tunnel->counters.unroutable, 1);
    else
        count(&tunnel->counters.spoofed, 1);
    return false;
}

/* Those that it may send and its filter lets through; gives how many. */
static size_t accept_packets(const turn *turn, tunnel *tunnel, const slice *packets, size_t packet_count,
                             slice accepted[MOST_FRAMES]) {
    size_t kept = 0, filtered = 0;
    for (size_t at = 0; at < packet_count; at++)
        if (accepts(tunnel, &packets[at]))
            accepted[kept++] = packets[at];
    if (tunnel->filter == NULL)
        return kept;
    pthread_mutex_lock(&tunnel->lock);
    for (size_t at = 0; at < kept; at++) {
        if (filter_passes(tunnel->filter, accepted[at].bytes, accepted[at].size, true, turn->now))
            accepted[at - filtered] = accepted[at];
        else
            filtered++;
    }
    pthread_mutex_unlock(&tunnel->lock);
    count(&tunnel->counters.filtered, filtered);
    return kept - filtered;
}

void tunnel_take_packets(turn *turn, tunnel *tunnel, const slice *packets, size_t packet_count) {
    const routes *routes = &turn->engine->routes;
    bool are_others = table_count(turn->engine->tunnels) > 1; /* a client has one tunnel, to itself */
    slice accepted[MOST_FRAMES];
    size_t accepted_count = accept_packets(turn, tunnel, packets, packet_count, accepted);
    uint64_t bytes = 0;
    for (size_t at = 0; at < accepted_count; at++) {
        const slice *packet = &accepted[at];
        size_t size = 0;
        const uint8_t *destination = packet_destination(packet->bytes, packet->size, &size);
        bytes += packet->size;
        struct tunnel *other = are_others ? routes_find(routes, destination, size) : NULL;
        if (other == NULL) {
            turn_write(turn, tunnel, packet->bytes, packet->size);
        } else {
            segments one;
            segments_of_packet(&one, packet->bytes, packet->size);
            tunnel_forward(turn, other, &one);
        }
    }
    if (accepted_count) {
        set_time(&tunnel->counters.data_at, turn->now);
        count(&tunnel->counters.received_packets, accepted_count);
        count(&tunnel->counters.received_bytes, bytes);
    }
}
