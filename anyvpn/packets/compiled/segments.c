/* Super-packets of the tun device, cut into the packets that go through tunnels.
 *
 *     virtio_net_hdr, 10 bytes in the machine's byte order (a 12-byte one has a word more):
 *     flags (1)  gso_type (1)  hdr_len (2)  gso_size (2)  csum_start (2)  csum_offset (2)
 *
 * What is not understood is left alone: the kernel on either side judges it. The rules are those
 * of offload.py, to the byte.
 *
 * Source: virtio 1.2, section 5.1.6; Linux, include/uapi/linux/virtio_net.h.
 */

#include "engine.h"

/* From the protocol */
enum { NEEDS_CHECKSUM = 1 };
enum { GSO_TCP_IPV4 = 1, GSO_TCP_IPV6 = 4, GSO_UDP = 5, GSO_ECN = 0x80 };
enum { IPV4_BYTES = 20, IPV6_BYTES = 40, TCP_BYTES = 20, UDP_BYTES = 8 };
enum { TCP = 6, UDP = 17 };
enum { FIN = 0x01, PSH = 0x08, CWR = 0x80 };
enum { SMALLEST_HEADER = 10 };

static unsigned native16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

void segments_of_packet(segments *segments, const uint8_t *packet, size_t size) {
    memset(segments, 0, sizeof *segments);
    segments->packet = (uint8_t *)packet; /* only read when there is nothing to cut */
    segments->size = size;
}

static void complete_checksum(uint8_t *packet, size_t size, size_t start, size_t offset) {
    size_t field = start + offset;
    if (field + 2 > size)
        return;
    unsigned checksum = checksum_of(word_sum(packet + start, size - start));
    put16(packet + field, checksum ? checksum : 65535); /* zero means "none" in UDP */
}

static void cut_tcp(segments *segments, size_t payload_size) {
    const uint8_t *packet = segments->packet, *tcp = packet + segments->ip;
    size_t tcp_bytes = segments->headers - segments->ip;
    (void)payload_size;
    segments->is_tcp = true;
    segments->sequence = get32(tcp + 4);
    segments->flags = tcp[13];
    /* Ports, acknowledgement, offset, window, urgent pointer and options stay the same */
    segments->transport_sum += (uint64_t)TCP + tcp_bytes + word_sum(tcp, 4) + word_sum(tcp + 8, 4) +
                               ((uint64_t)tcp[12] << 8) + word_sum(tcp + 14, 2) +
                               word_sum(tcp + 18, tcp_bytes - 18);
}

static void cut_udp(segments *segments) {
    segments->transport_sum += (uint64_t)UDP + word_sum(segments->packet + segments->ip, 4);
}

/* Finds the headers; leaves `headers` at 0 when the packet is none to be cut. */
static void cut(segments *segments, unsigned kind, size_t gso, size_t ip) {
    const uint8_t *packet = segments->packet;
    size_t size = segments->size;
    unsigned version = packet[0] >> 4, protocol;
    if (version == 4) {
        if (ip != (size_t)(packet[0] & 0x0F) * 4 || ip < IPV4_BYTES)
            return;
        protocol = packet[9];
    } else if (version == 6) {
        if (ip < IPV6_BYTES)
            return;
        /* Behind extension headers we take the kernel's word for the protocol */
        protocol = ip == IPV6_BYTES ? packet[6] : 0;
    } else {
        return;
    }
    bool is_tcp = kind == (version == 4 ? GSO_TCP_IPV4 : GSO_TCP_IPV6);
    size_t transport;
    if (is_tcp && (protocol == 0 || protocol == TCP)) {
        if (size < ip + TCP_BYTES)
            return;
        transport = (size_t)(packet[ip + 12] >> 4) * 4;
        if (transport < TCP_BYTES || size <= ip + transport)
            return;
    } else if (kind == GSO_UDP && (protocol == 0 || protocol == UDP)) {
        transport = UDP_BYTES;
        if (size <= ip + transport)
            return;
    } else {
        return;
    }
    segments->ip = ip;
    segments->headers = ip + transport;
    segments->segment = gso;
    if (version == 4) {
        segments->ident = get16(packet + 4);
        segments->ip_sum = word_sum(packet, 2) + word_sum(packet + 6, 4) + word_sum(packet + 12, ip - 12);
        segments->transport_sum = word_sum(packet + 12, 8);
    } else {
        segments->transport_sum = word_sum(packet + 8, 32);
    }
    if (is_tcp)
        cut_tcp(segments, size - segments->headers);
    else
        cut_udp(segments);
}

bool segments_begin(segments *segments, uint8_t *frame, size_t size, size_t header) {
    if (size <= header)
        return false;
    segments_of_packet(segments, frame + header, size - header);
    if (header < SMALLEST_HEADER || !(frame[0] & NEEDS_CHECKSUM))
        return true;
    unsigned type = frame[1], gso = native16(frame + 4);
    size_t start = native16(frame + 6), offset = native16(frame + 8);
    size_t packet_size = segments->size;
    if (type && gso && start < packet_size && gso < packet_size - start)
        cut(segments, type & ~(unsigned)GSO_ECN, gso, start); /* hdr_len is a hint: our own look decides */
    else if (start <= packet_size)
        complete_checksum(segments->packet, packet_size, start, offset);
    return true;
}

size_t segments_count(const segments *segments) {
    if (!segments->headers)
        return 1;
    return (segments->size - segments->headers + segments->segment - 1) / segments->segment;
}

size_t segments_next(const segments *segments) {
    if (!segments->headers)
        return segments->at ? 0 : segments->size;
    size_t left = segments->size - segments->headers - segments->at;
    if (!left)
        return 0;
    return segments->headers + (left < segments->segment ? left : segments->segment);
}

static void write_ipv4(segments *segments, uint8_t *at, size_t size) {
    put16(at + 2, (unsigned)size);
    put16(at + 4, segments->ident);
    put16(at + 10, checksum_of(segments->ip_sum + size + segments->ident));
    segments->ident++;
}

void segments_write(segments *segments, uint8_t *at) {
    size_t size = segments_next(segments), headers = segments->headers;
    if (!headers) {
        memcpy(at, segments->packet, size);
        segments->at = 1;
        return;
    }
    size_t payload = size - headers, ip = segments->ip;
    bool is_last = segments->at + payload == segments->size - headers;
    memcpy(at, segments->packet, headers);
    uint64_t sum = segments->transport_sum +
                   copy_word_sum(at + headers, segments->packet + headers + segments->at, payload);
    if (at[0] >> 4 == 4)
        write_ipv4(segments, at, size);
    else
        put16(at + 4, (unsigned)(size - IPV6_BYTES));
    uint8_t *transport = at + ip;
    if (segments->is_tcp) {
        /* FIN and PSH belong to the last byte, CWR to the first */
        unsigned flags = segments->flags;
        if (!is_last)
            flags &= ~(unsigned)(FIN | PSH);
        if (segments->at)
            flags &= ~(unsigned)CWR;
        put32(transport + 4, segments->sequence);
        transport[13] = (uint8_t)flags;
        sum += payload + (segments->sequence >> 16) + (segments->sequence & 0xFFFF) + flags;
        put16(transport + 16, checksum_of(sum));
        segments->sequence += (uint32_t)payload;
    } else {
        size_t length = UDP_BYTES + payload;
        put16(transport + 4, (unsigned)length);
        /* The length counts twice: in the pseudo-header and in the header */
        unsigned checksum = checksum_of(sum + 2 * length);
        put16(transport + 6, checksum ? checksum : 65535);
    }
    segments->at += payload;
}
