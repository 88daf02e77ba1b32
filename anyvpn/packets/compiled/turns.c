/* What one thread has in hand: records on their way to peers, packets on theirs to the device.
 *
 * Records of one channel and one size that follow each other make a burst, which leaves in one
 * datagram of the kernel's (UDP_SEGMENT). A turn is flushed before its locks are let go.
 */

#include <stdlib.h>

#include "engine.h"

/* Ours: 65,507 bytes are the most of a datagram, and the kernel adds to it */
enum { MOST_BURST_BYTES = 65000 };

turn *turn_new(engine *engine, const sinks *sinks, void *host) {
    turn *made = malloc(sizeof *made);
    if (made != NULL) {
        made->engine = engine;
        made->sinks = sinks;
        made->host = host;
        made->now = 0;
        made->used = 0;
        made->burst_count = 0;
        made->stream_count = 0;
        merging_reset(&made->merging);
    }
    return made;
}

void turn_free(turn *turn) {
    free(turn);
}

static void send_bursts(turn *turn) {
    if (turn->burst_count)
        turn->sinks->send(turn, turn->bursts, turn->burst_count);
    turn->burst_count = 0;
    turn->used = 0;
}

static void write_pieces(turn *turn) {
    if (turn->merging.piece_count)
        turn->sinks->write(turn, &turn->merging);
    merging_reset(&turn->merging);
}

uint8_t *turn_reserve(turn *turn, size_t size) {
    if (turn->used + size > ARENA_BYTES || turn->burst_count == MOST_BURSTS)
        send_bursts(turn);
    return turn->arena + turn->used;
}

void turn_commit(turn *turn, channel *channel, size_t size, size_t packet_bytes, bool is_data) {
    burst *last = turn->burst_count ? &turn->bursts[turn->burst_count - 1] : NULL;
    if (last == NULL || last->channel != channel || last->is_closed || size > last->segment ||
        last->datagrams == MOST_SEGMENTS || last->size + size > MOST_BURST_BYTES) {
        last = &turn->bursts[turn->burst_count++];
        *last = (burst){.channel = channel, .path = channel->path, .data = turn->arena + turn->used, .segment = size};
    }
    last->is_closed = size < last->segment;
    last->size += size;
    last->datagrams++;
    last->packets += is_data;
    last->packet_bytes += packet_bytes;
    turn->used += size;
}

void turn_send_stream(turn *turn, stream *stream) {
    if (stream->is_in_turn)
        return;
    if (turn->stream_count == MOST_STREAMS) {
        /* Others may wait for this tunnel's lock, so it sends its own now */
        turn->sinks->flush(turn, stream);
        return;
    }
    stream->is_in_turn = true;
    turn->streams[turn->stream_count++] = stream;
}

static void send_streams(turn *turn) {
    for (unsigned at = 0; at < turn->stream_count; at++) {
        stream *stream = turn->streams[at];
        pthread_mutex_lock(&stream->tunnel->lock);
        bool was_congested = stream->is_congested;
        stream->is_in_turn = false;
        turn->sinks->flush(turn, stream);
        bool goes_on = was_congested && !stream->is_congested;
        pthread_mutex_unlock(&stream->tunnel->lock);
        if (goes_on) /* nobody will say again that there is room */
            tunnel_send_waiting(turn, stream->tunnel);
    }
    turn->stream_count = 0;
}

void turn_write(turn *turn, tunnel *tunnel, const uint8_t *packet, size_t size) {
    enum merged merged = turn->engine->merged;
    if (!merging_add(&turn->merging, packet, size, tunnel, merged)) {
        write_pieces(turn);
        merging_add(&turn->merging, packet, size, tunnel, merged);
    }
}

void turn_flush(turn *turn) {
    send_streams(turn);
    send_bursts(turn); /* what waited for a stream may go over DTLS by now */
    write_pieces(turn);
}
