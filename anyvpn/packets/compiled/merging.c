/* Segments of a TCP flow, datagrams of a UDP flow: merged to one super-packet for the tun device.
 *
 * The rules are those of the kernel's own GRO, and of merging.py: cut again, a super-packet gives
 * what was received, but for IPv4 ids that stood still, which count up then. Only packets whose
 * checksums are right are merged, since the super-packet is given a new one.
 *
 * Source: Linux, net/ipv4/tcp_offload.c, net/ipv4/udp_offload.c; virtio 1.2, section 5.1.6.
 */

#include "engine.h"

/* From the protocol */
enum { NEEDS_CHECKSUM = 1, GSO_TCP_IPV4 = 1, GSO_TCP_IPV6 = 4, GSO_UDP = 5 };
enum { IPV4_BYTES = 20, IPV6_BYTES = 40 };
enum { TCP = 6, TCP_BYTES = 20, TCP_CHECKSUM_AT = 16, UDP = 17, UDP_BYTES = 8, UDP_CHECKSUM_AT = 6 };
enum { FIN = 0x01, PSH = 0x08, ACK = 0x10, ECE = 0x40 };
enum { DO_NOT_FRAGMENT = 0x40 };

enum look { NO_FLOW, UNKNOWN_FLOW, LONELY, MERGEABLE };

void merging_reset(merging *merging) {
    merging->piece_count = merging->item_count = merging->open_count = 0;
}

/* Next headers of IPv6 behind which one of a flow may still follow. */
static bool may_hide_flow(uint8_t next_header) {
    switch (next_header) {
    case 0: case 43: case 44: case 51: case 60: case 135: case 139: case 140:
        return true;
    default:
        return false;
    }
}

/* Whether a packet is part of a flow, and where its headers end. */
static enum look look_at(const uint8_t *packet, size_t size, bool takes_datagrams, packet_shape *shape) {
    unsigned version = size > IPV4_BYTES ? packet[0] >> 4 : 0;
    if (version != 4 && !(version == 6 && size > IPV6_BYTES))
        return NO_FLOW;
    shape->ip = version == 4 ? IPV4_BYTES : IPV6_BYTES;
    shape->protocol = version == 4 ? packet[9] : packet[6];
    if (shape->protocol != TCP && !(takes_datagrams && shape->protocol == UDP))
        return version == 6 && may_hide_flow(shape->protocol) ? UNKNOWN_FLOW : NO_FLOW;
    /* 0x45: no options; 0x3F: more fragments, or not the first one */
    if (version == 4 && (packet[0] != 0x45 || packet[6] & 0x3F))
        return UNKNOWN_FLOW;
    bool is_whole = version == 4 ? get16(packet + 2) == size && !packet[7]
                                 : get16(packet + 4) + (size_t)IPV6_BYTES == size;
    const uint8_t *transport = packet + shape->ip;
    if (shape->protocol == UDP) {
        shape->headers = shape->ip + UDP_BYTES;
        if (size < shape->headers)
            return UNKNOWN_FLOW;
        bool is_plain = get16(transport + 4) == size - shape->ip && get16(transport + UDP_CHECKSUM_AT);
        return is_whole && size > shape->headers && is_plain ? MERGEABLE : LONELY;
    }
    if (size <= shape->ip + 12)
        return UNKNOWN_FLOW;
    size_t tcp = (size_t)(transport[12] >> 4) * 4;
    shape->headers = shape->ip + tcp;
    if (tcp < TCP_BYTES || size < shape->headers)
        return UNKNOWN_FLOW;
    shape->flags = transport[13];
    bool is_plain = (shape->flags & ~(unsigned)(ECE | FIN | PSH)) == ACK;
    return is_whole && size > shape->headers && is_plain ? MERGEABLE : LONELY;
}

static bool same_flow(const uint8_t *one, const uint8_t *other, size_t ip) {
    if (one[0] >> 4 != other[0] >> 4)
        return false;
    size_t addresses = ip == IPV4_BYTES ? 12 : 8;
    return memcmp(one + addresses, other + addresses, ip - addresses + 4) == 0;
}

/* What all parts of a super-packet share beside the flow. */
static bool same_headers(const uint8_t *one, const uint8_t *other, const packet_shape *shape) {
    size_t ip = shape->ip;
    const uint8_t *tcp = one + ip, *other_tcp = other + ip;
    bool same_ip = ip == IPV4_BYTES
                       ? memcmp(one, other, 2) == 0 && memcmp(one + 6, other + 6, 4) == 0
                       : memcmp(one, other, 4) == 0 && memcmp(one + 6, other + 6, 2) == 0;
    if (!same_ip || shape->protocol == UDP)
        return same_ip;
    return memcmp(tcp + 8, other_tcp + 8, 5) == 0 && memcmp(tcp + 14, other_tcp + 14, 2) == 0 &&
           memcmp(tcp + 18, other_tcp + 18, shape->headers - ip - 18) == 0;
}

/* Whether the checksums are right, over headers and payload. */
static bool is_intact(const uint8_t *packet, size_t size, size_t ip, uint8_t protocol) {
    uint64_t addresses = ip == IPV4_BYTES ? word_sum(packet + 12, 8) : word_sum(packet + 8, 32);
    if ((addresses + protocol + (size - ip) + word_sum(packet + ip, size - ip)) % 65535)
        return false;
    return ip != IPV4_BYTES || word_sum(packet, IPV4_BYTES) % 65535 == 0;
}

static int open_run_of(const merging *merging, const uint8_t *packet, const packet_shape *shape) {
    for (int at = merging->open_count - 1; at >= 0; at--) {
        const item *run = &merging->items[merging->open_runs[at]];
        if (run->shape.ip == shape->ip && run->shape.protocol == shape->protocol &&
            same_flow(merging->pieces[run->first].packet, packet, shape->ip))
            return at;
    }
    return -1;
}

static void close_run(merging *merging, int at) {
    merging->open_count--;
    for (; at < merging->open_count; at++)
        merging->open_runs[at] = merging->open_runs[at + 1];
}

/* The second one says whether ids count up or, without fragments, stay the same. */
static bool fits_ident(item *run, const uint8_t *packet, size_t ip) {
    uint16_t ident = ip == IPV4_BYTES ? get16(packet + 4) : 0;
    if (run->ident_step < 0) {
        unsigned step = (uint16_t)(ident - run->next_ident);
        bool may_stand = ip == IPV6_BYTES || packet[6] & DO_NOT_FRAGMENT;
        if (step != 1 && !(step == 0 && may_stand))
            return false;
        run->ident_step = (int)step;
    } else if (ident != run->next_ident) {
        return false;
    }
    run->next_ident = (uint16_t)(ident + run->ident_step);
    return true;
}

static bool take(merging *merging, item *run, const uint8_t *packet, size_t size, const packet_shape *shape) {
    const piece *first = &merging->pieces[run->first];
    const int most = shape->protocol == TCP ? MOST_RUN_PIECES : MOST_SEGMENTS;
    size_t ip = shape->ip, payload = size - shape->headers;
    bool is_tcp = shape->protocol == TCP;
    if (run->is_closed || shape->headers != run->shape.headers || payload > run->segment ||
        run->size + payload > LONGEST_PACKET || run->pieces == most ||
        (is_tcp && get32(packet + ip + 4) != run->next_sequence) || (shape->flags ^ run->shape.flags) & ECE ||
        !same_headers(first->packet, packet, shape))
        return false;
    if (!run->is_first_checked) {
        if (!is_intact(first->packet, first->size, ip, shape->protocol)) {
            run->is_closed = true;
            return false;
        }
        run->is_first_checked = true;
    }
    if (!is_intact(packet, size, ip, shape->protocol) || !fits_ident(run, packet, ip))
        return false;
    run->size += payload;
    run->next_sequence += (uint32_t)payload;
    run->shape.flags |= shape->flags;
    run->is_closed = payload < run->segment || shape->flags & (FIN | PSH);
    return true;
}

static int add_piece(merging *merging, const uint8_t *packet, size_t size, tunnel *tunnel) {
    merging->pieces[merging->piece_count] = (piece){packet, size, tunnel, -1};
    return merging->piece_count++;
}

static item *add_item(merging *merging, int first) {
    item *made = &merging->items[merging->item_count++];
    *made = (item){.first = first, .last = first, .pieces = 1};
    return made;
}

static void begin_run(merging *merging, int first, const packet_shape *shape) {
    const piece *only = &merging->pieces[first];
    item *run = add_item(merging, first);
    run->shape = *shape;
    run->segment = only->size - shape->headers;
    run->size = only->size;
    if (shape->protocol == TCP)
        run->next_sequence = get32(only->packet + shape->ip + 4) + (uint32_t)run->segment;
    run->next_ident = shape->ip == IPV4_BYTES ? get16(only->packet + 4) : 0;
    run->ident_step = -1;
    if (merging->open_count == MOST_OPEN_RUNS)
        close_run(merging, 0);
    merging->open_runs[merging->open_count++] = merging->item_count - 1;
}

bool merging_add(merging *merging, const uint8_t *packet, size_t size, tunnel *tunnel, enum merged merged) {
    packet_shape shape = {0};
    if (merging->piece_count == MOST_PIECES)
        return false;
    enum look look = merged ? look_at(packet, size, merged == MERGED_DATAGRAMS, &shape) : NO_FLOW;
    if (look == UNKNOWN_FLOW)
        merging->open_count = 0;
    if (look == NO_FLOW || look == UNKNOWN_FLOW) {
        /* Anything but what is merged may change places with that */
        add_item(merging, add_piece(merging, packet, size, tunnel));
        return true;
    }
    int at = open_run_of(merging, packet, &shape);
    item *run = at < 0 ? NULL : &merging->items[merging->open_runs[at]];
    if (run != NULL && look == MERGEABLE && take(merging, run, packet, size, &shape)) {
        int added = add_piece(merging, packet, size, tunnel);
        merging->pieces[run->last].next = added;
        run->last = added;
        run->pieces++;
        return true;
    }
    if (at >= 0)
        close_run(merging, at);
    int added = add_piece(merging, packet, size, tunnel);
    if (look == MERGEABLE && !(shape.flags & (FIN | PSH)))
        begin_run(merging, added, &shape);
    else
        add_item(merging, added);
    return true;
}

size_t merging_headers(const merging *merging, const item *item, uint8_t *frame_header, size_t header,
                       uint8_t headers[MOST_HEADERS]) {
    memset(frame_header, 0, header);
    if (item->pieces < 2)
        return 0;
    const packet_shape *shape = &item->shape;
    bool is_tcp = shape->protocol == TCP;
    size_t ip = shape->ip, rest = item->size - ip, checksum = is_tcp ? TCP_CHECKSUM_AT : UDP_CHECKSUM_AT;
    memcpy(headers, merging->pieces[item->first].packet, shape->headers);
    uint64_t addresses;
    if (ip == IPV4_BYTES) {
        put16(headers + 2, (unsigned)item->size);
        put16(headers + 10, 0);
        put16(headers + 10, checksum_of(word_sum(headers, IPV4_BYTES)));
        addresses = word_sum(headers + 12, 8);
    } else {
        put16(headers + 4, (unsigned)rest);
        addresses = word_sum(headers + 8, 32);
    }
    if (is_tcp)
        headers[ip + 13] = shape->flags;
    else
        put16(headers + ip + 4, (unsigned)rest);
    /* Not folded to the end: the kernel adds the rest and inverts */
    put16(headers + ip + checksum, (unsigned)((addresses + shape->protocol + rest) % 65535));
    uint16_t words[4] = {(uint16_t)shape->headers, (uint16_t)item->segment, (uint16_t)ip, (uint16_t)checksum};
    frame_header[0] = NEEDS_CHECKSUM;
    frame_header[1] = !is_tcp ? GSO_UDP : ip == IPV4_BYTES ? GSO_TCP_IPV4 : GSO_TCP_IPV6;
    memcpy(frame_header + 2, words, sizeof words);
    return shape->headers;
}
