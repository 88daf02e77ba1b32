/* Segments of a TCP flow, merged to one super-packet for the tun device.
 *
 * The rules are those of the kernel's own GRO, and of merging.py: cut again, a super-packet gives
 * what was received, but for IPv4 ids that stood still, which count up then. Only segments whose
 * checksums are right are merged, since the super-packet is given a new one.
 *
 * Source: Linux, net/ipv4/tcp_offload.c; virtio 1.2, section 5.1.6.
 */

#include "engine.h"

/* From the protocol */
enum { NEEDS_CHECKSUM = 1, GSO_TCP_IPV4 = 1, GSO_TCP_IPV6 = 4 };
enum { IPV4_BYTES = 20, IPV6_BYTES = 40, TCP_BYTES = 20, TCP = 6, TCP_CHECKSUM_AT = 16 };
enum { FIN = 0x01, PSH = 0x08, ACK = 0x10, ECE = 0x40 };
enum { DO_NOT_FRAGMENT = 0x40 };

enum look { NO_TCP, UNKNOWN_FLOW, LONELY, MERGEABLE };

void merging_reset(merging *merging) {
    merging->piece_count = merging->item_count = merging->open_count = 0;
}

/* Next headers of IPv6 behind which a TCP header may still follow. */
static bool may_hide_tcp(uint8_t next_header) {
    switch (next_header) {
    case 0: case 43: case 44: case 51: case 60: case 135: case 139: case 140:
        return true;
    default:
        return false;
    }
}

/* Whether there is a TCP segment in the packet, and where its headers end. */
static enum look look_at(const uint8_t *packet, size_t size, size_t *ip, size_t *headers) {
    unsigned version = size > IPV4_BYTES ? packet[0] >> 4 : 0;
    bool is_whole;
    if (version == 4) {
        if (packet[9] != TCP)
            return NO_TCP;
        *ip = IPV4_BYTES;
        /* 0x45: no options; 0x3F: more fragments, or not the first one */
        if (size <= IPV4_BYTES + 12 || packet[0] != 0x45 || packet[6] & 0x3F)
            return UNKNOWN_FLOW;
        is_whole = get16(packet + 2) == size && !packet[7];
    } else if (version == 6 && size > IPV6_BYTES) {
        if (packet[6] != TCP)
            return may_hide_tcp(packet[6]) ? UNKNOWN_FLOW : NO_TCP;
        *ip = IPV6_BYTES;
        if (size <= IPV6_BYTES + 12)
            return UNKNOWN_FLOW;
        is_whole = get16(packet + 4) + (size_t)IPV6_BYTES == size;
    } else {
        return NO_TCP;
    }
    size_t tcp = (size_t)(packet[*ip + 12] >> 4) * 4;
    *headers = *ip + tcp;
    if (tcp < TCP_BYTES || size < *headers)
        return UNKNOWN_FLOW;
    unsigned flags = packet[*ip + 13];
    bool plain = (flags & ~(unsigned)(ECE | FIN | PSH)) == ACK;
    return is_whole && size > *headers && plain ? MERGEABLE : LONELY;
}

static bool same_flow(const uint8_t *one, const uint8_t *other, size_t ip) {
    if (one[0] >> 4 != other[0] >> 4)
        return false;
    size_t addresses = ip == IPV4_BYTES ? 12 : 8;
    return memcmp(one + addresses, other + addresses, ip - addresses + 4) == 0;
}

/* What all segments of a super-packet share beside the flow. */
static bool same_headers(const uint8_t *one, const uint8_t *other, size_t ip, size_t headers) {
    const uint8_t *tcp = one + ip, *other_tcp = other + ip;
    bool same_ip = ip == IPV4_BYTES
                       ? memcmp(one, other, 2) == 0 && memcmp(one + 6, other + 6, 4) == 0
                       : memcmp(one, other, 4) == 0 && memcmp(one + 6, other + 6, 2) == 0;
    return same_ip && memcmp(tcp + 8, other_tcp + 8, 5) == 0 && memcmp(tcp + 14, other_tcp + 14, 2) == 0 &&
           memcmp(tcp + 18, other_tcp + 18, headers - ip - 18) == 0;
}

/* Whether the checksums are right, over headers and payload. */
static bool is_intact(const uint8_t *packet, size_t size, size_t ip) {
    uint64_t addresses = ip == IPV4_BYTES ? word_sum(packet + 12, 8) : word_sum(packet + 8, 32);
    if ((addresses + TCP + (size - ip) + word_sum(packet + ip, size - ip)) % 65535)
        return false;
    return ip != IPV4_BYTES || word_sum(packet, IPV4_BYTES) % 65535 == 0;
}

static int open_run_of(const merging *merging, const uint8_t *packet, size_t ip) {
    for (int at = merging->open_count - 1; at >= 0; at--) {
        const item *run = &merging->items[merging->open_runs[at]];
        if (run->ip == ip && same_flow(merging->pieces[run->first].packet, packet, ip))
            return at;
    }
    return -1;
}

static void close_run(merging *merging, int at) {
    merging->open_count--;
    for (; at < merging->open_count; at++)
        merging->open_runs[at] = merging->open_runs[at + 1];
}

/* The second segment says whether ids count up or, without fragments, stay the same. */
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

static bool take(merging *merging, item *run, const uint8_t *packet, size_t size, size_t ip, size_t headers) {
    const piece *first = &merging->pieces[run->first];
    size_t payload = size - headers;
    uint8_t flags = packet[ip + 13];
    if (get32(packet + ip + 4) != run->next_sequence || run->is_closed || headers != run->headers ||
        payload > run->segment || (flags ^ run->flags) & ECE || run->size + payload > LONGEST_PACKET ||
        run->pieces == MOST_RUN_PIECES || !same_headers(first->packet, packet, ip, headers))
        return false;
    if (!run->is_first_checked) {
        if (!is_intact(first->packet, first->size, ip)) {
            run->is_closed = true;
            return false;
        }
        run->is_first_checked = true;
    }
    if (!is_intact(packet, size, ip) || !fits_ident(run, packet, ip))
        return false;
    run->size += payload;
    run->next_sequence += (uint32_t)payload;
    run->flags |= flags;
    run->is_closed = payload < run->segment || flags & (FIN | PSH);
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

static void begin_run(merging *merging, int first, size_t ip, size_t headers) {
    const piece *only = &merging->pieces[first];
    item *run = add_item(merging, first);
    run->is_run = true;
    run->ip = ip;
    run->headers = headers;
    run->segment = only->size - headers;
    run->size = only->size;
    run->flags = only->packet[ip + 13];
    run->next_sequence = get32(only->packet + ip + 4) + (uint32_t)run->segment;
    run->next_ident = ip == IPV4_BYTES ? get16(only->packet + 4) : 0;
    run->ident_step = -1;
    if (merging->open_count == MOST_OPEN_RUNS)
        close_run(merging, 0);
    merging->open_runs[merging->open_count++] = merging->item_count - 1;
}

bool merging_add(merging *merging, const uint8_t *packet, size_t size, tunnel *tunnel, bool mergeable) {
    size_t ip = 0, headers = 0;
    if (merging->piece_count == MOST_PIECES)
        return false;
    enum look look = mergeable ? look_at(packet, size, &ip, &headers) : NO_TCP;
    if (look == UNKNOWN_FLOW)
        merging->open_count = 0;
    if (look == NO_TCP || look == UNKNOWN_FLOW) {
        /* Anything but TCP may change places with TCP */
        add_item(merging, add_piece(merging, packet, size, tunnel));
        return true;
    }
    int at = open_run_of(merging, packet, ip);
    item *run = at < 0 ? NULL : &merging->items[merging->open_runs[at]];
    if (run != NULL && look == MERGEABLE && take(merging, run, packet, size, ip, headers)) {
        int added = add_piece(merging, packet, size, tunnel);
        merging->pieces[run->last].next = added;
        run->last = added;
        run->pieces++;
        return true;
    }
    if (at >= 0)
        close_run(merging, at);
    int added = add_piece(merging, packet, size, tunnel);
    if (look == MERGEABLE && !(packet[ip + 13] & (FIN | PSH)))
        begin_run(merging, added, ip, headers);
    else
        add_item(merging, added);
    return true;
}

size_t merging_headers(const merging *merging, const item *item, uint8_t *frame_header, size_t header,
                       uint8_t headers[MOST_HEADERS]) {
    memset(frame_header, 0, header);
    if (item->pieces < 2)
        return 0;
    const uint8_t *first = merging->pieces[item->first].packet;
    size_t ip = item->ip, tcp = item->size - ip;
    memcpy(headers, first, item->headers);
    uint64_t addresses;
    if (ip == IPV4_BYTES) {
        put16(headers + 2, (unsigned)item->size);
        put16(headers + 10, 0);
        put16(headers + 10, checksum_of(word_sum(headers, IPV4_BYTES)));
        addresses = word_sum(headers + 12, 8);
    } else {
        put16(headers + 4, (unsigned)tcp);
        addresses = word_sum(headers + 8, 32);
    }
    headers[ip + 13] = item->flags;
    /* Not folded to the end: the kernel adds the rest and inverts */
    put16(headers + ip + TCP_CHECKSUM_AT, (unsigned)((addresses + TCP + tcp) % 65535));
    uint16_t words[4] = {(uint16_t)item->headers, (uint16_t)item->segment, (uint16_t)ip, TCP_CHECKSUM_AT};
    frame_header[0] = NEEDS_CHECKSUM;
    frame_header[1] = ip == IPV4_BYTES ? GSO_TCP_IPV4 : GSO_TCP_IPV6;
    memcpy(frame_header + 2, words, sizeof words);
    return item->headers;
}
