/* Which packets of a tunnel pass: the rules of its filter, and who has opened which flow.
 *
 * What the rules mean stands in model/packet_filter.py; this does what filtering.py does. What they
 * say of a flow of TCP or UDP is kept by its addresses and ports, so that bulk traffic costs a look
 * at its headers and one into a table. Whether the other side has opened a flow is asked of two
 * tables, the older of which is forgotten as time passes, or when the newer one is full.
 */

#include <errno.h>
#include <stdlib.h>

#include "engine.h"

/* From the protocol */
enum { ICMP = 1, TCP = 6, UDP = 17, ICMPV6 = 58 };
enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, DESTINATION = 60 };
enum { IPV4_BYTES = 20, IPV6_BYTES = 40, SHORTEST_EXTENSION = 8 };
enum { TCP_BYTES = 20, UDP_BYTES = 8, ICMP_BYTES = 8 };
enum { OPTION_END = 0, OPTION_NONE = 1, LOOSE_SOURCE_ROUTE = 131, STRICT_SOURCE_ROUTE = 137 };
enum { FLAGS_AT = 13, SYN = 0x02, SYN_AND_ACK = 0x12 };
enum { ECHO_REPLY = 0, ECHO_REQUEST = 8, ECHO_REQUEST_V6 = 128, ECHO_REPLY_V6 = 129 };
enum { QUOTED_BYTES = 8 }; /* so much of a transport header is in an ICMP error */

/* Ours, as in packet_filter.py and filtering.py */
enum { FEWEST_FLOWS = 1024, MOST_EXTENSIONS = 8, MOST_RULES = 1000, MOST_RANGES = 32, MOST_VERDICTS = 2048 };
static const double answer_time = 120;

/* --- rules ---------------------------------------------------------------------------------- */

enum { ALLOWS = 1, CLIENT_OPENS = 2, OTHERS_OPEN = 4, HAS_PROTOCOL = 8, ALL_FLAGS = 15 };
enum { SHORTEST_RULE = 8, RANGE_BYTES = 4 };

typedef struct { uint16_t first, last; } range;

typedef struct {
    const range *ranges;
    size_t count; /* 0: any */
} ranges;

typedef struct {
    uint8_t flags, protocol;
    network far, near; /* a size of 0: any */
    ranges ports, source_ports;
} rule;

struct rules {
    rules *next, **all;
    size_t tunnels, rule_count, size;
    rule *list;
    range *ranges;
    uint8_t bytes[]; /* as they were given, by which they are found again */
};

static const uint8_t *take(slice *from, size_t size) {
    const uint8_t *taken = from->bytes;
    if (from->size < size)
        return NULL;
    from->bytes += size;
    from->size -= size;
    return taken;
}

static bool read_network(slice *from, network *network) {
    const uint8_t *head = take(from, 2);
    if (head == NULL || (head[0] != 0 && head[0] != 4 && head[0] != 16) || head[1] > head[0] * 8)
        return false;
    const uint8_t *address = take(from, head[0]);
    if (address == NULL)
        return false;
    network->size = head[0];
    network->prefix = head[1];
    memcpy(network->address, address, head[0]);
    return true;
}

static bool read_ranges(slice *from, ranges *ranges, range **room) {
    const uint8_t *count = take(from, 1);
    if (count == NULL || *count > MOST_RANGES)
        return false;
    ranges->ranges = *room;
    ranges->count = *count;
    for (size_t left = *count; left > 0; left--) {
        const uint8_t *ends = take(from, RANGE_BYTES);
        if (ends == NULL || get16(ends) > get16(ends + 2))
            return false;
        *(*room)++ = (range){get16(ends), get16(ends + 2)};
    }
    return true;
}

static bool read_rule(slice *from, rule *rule, range **room) {
    const uint8_t *head = take(from, 2);
    if (head == NULL || head[0] > ALL_FLAGS)
        return false;
    rule->flags = head[0];
    rule->protocol = head[1];
    return read_network(from, &rule->far) && read_network(from, &rule->near) &&
           read_ranges(from, &rule->ports, room) && read_ranges(from, &rule->source_ports, room);
}

static void discard(rules *rules) {
    free(rules->list);
    free(rules->ranges);
    free(rules);
}

/* NULL, with errno: it is no rules, or there is no memory. */
static rules *read_rules(const uint8_t *bytes, size_t size) {
    rules *made = calloc(1, sizeof *made + size);
    if (made == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    memcpy(made->bytes, bytes, size);
    made->size = size;
    /* No more of them fit into so many bytes */
    made->list = calloc(size / SHORTEST_RULE + 1, sizeof *made->list);
    made->ranges = calloc(size / RANGE_BYTES + 1, sizeof *made->ranges);
    int error = made->list == NULL || made->ranges == NULL ? ENOMEM : 0;
    range *room = made->ranges;
    for (slice left = {made->bytes, size}; !error && left.size; made->rule_count++)
        if (made->rule_count == MOST_RULES || !read_rule(&left, &made->list[made->rule_count], &room))
            error = EINVAL;
    if (error) {
        discard(made);
        errno = error;
        return NULL;
    }
    return made;
}

/* Tunnels of one policy have the same ones. */
static rules *shared(rules **all, const uint8_t *bytes, size_t size) {
    rules *found = *all;
    while (found != NULL && (found->size != size || memcmp(found->bytes, bytes, size) != 0))
        found = found->next;
    if (found == NULL && (found = read_rules(bytes, size)) != NULL) {
        found->all = all;
        found->next = *all;
        *all = found;
    }
    if (found != NULL)
        found->tunnels++;
    return found;
}

static void leave(rules *rules) {
    if (--rules->tunnels)
        return;
    struct rules **link = rules->all;
    while (*link != rules)
        link = &(*link)->next;
    *link = rules->next;
    discard(rules);
}

/* --- what is looked at in a packet ---------------------------------------------------------- */

typedef struct head {
    const uint8_t *packet, *source, *destination;
    size_t start; /* of the transport header */
    uint8_t address_bytes, protocol;
    bool has_numbers; /* or it is a fragment but the first, which has no transport header */
    uint16_t source_port, port; /* for ICMP 0 and the type, for other protocols zeros */
} head;

/* Whether there is no source route among IPv4 options, which would change the destination. */
static bool may_have(const uint8_t *options, size_t size) {
    while (size && options[0] != OPTION_END) {
        size_t length = 1;
        if (options[0] != OPTION_NONE) {
            length = size > 1 ? options[1] : 0;
            if (options[0] == LOOSE_SOURCE_ROUTE || options[0] == STRICT_SOURCE_ROUTE)
                return false;
            if (length < 2 || length > size)
                return false;
        }
        options += length;
        size -= length;
    }
    return true;
}

static bool read_transport(head *head, size_t size, unsigned offset, bool is_quoted) {
    uint8_t protocol = head->protocol;
    if (offset) /* with 8 bytes it would overwrite the flags of TCP's first fragment */
        return protocol != TCP || offset != 1;
    size_t needed = protocol == TCP ? TCP_BYTES : protocol == UDP ? UDP_BYTES : 0;
    if (protocol == ICMP || protocol == ICMPV6)
        needed = ICMP_BYTES;
    bool is_there = needed > 0;
    if (is_quoted && needed > QUOTED_BYTES)
        needed = QUOTED_BYTES;
    if (size < head->start || size - head->start < needed)
        return false;
    const uint8_t *transport = head->packet + head->start;
    head->has_numbers = true;
    if (protocol == TCP || protocol == UDP) {
        head->source_port = get16(transport);
        head->port = get16(transport + 2);
    } else if (is_there) {
        head->port = transport[0];
    }
    return true;
}

static bool read_ipv4(head *head, size_t size, bool is_quoted) {
    const uint8_t *packet = head->packet;
    size_t header = (size_t)(packet[0] & 0x0F) * 4;
    if (header < IPV4_BYTES || header > size || !may_have(packet + IPV4_BYTES, header - IPV4_BYTES))
        return false;
    head->protocol = packet[9];
    head->source = packet + 12;
    head->destination = packet + 16;
    head->address_bytes = 4;
    head->start = header;
    return read_transport(head, size, get16(packet + 6) & 0x1FFF, is_quoted);
}

static bool is_extension(uint8_t header) {
    return header == HOP_BY_HOP || header == ROUTING || header == FRAGMENT || header == DESTINATION;
}

static bool read_ipv6(head *head, size_t size, bool is_quoted) {
    const uint8_t *packet = head->packet;
    uint8_t following = packet[6];
    size_t start = IPV6_BYTES;
    unsigned offset = 0, extensions = 0;
    while (!offset && is_extension(following)) {
        if (++extensions > MOST_EXTENSIONS || size < start + SHORTEST_EXTENSION)
            return false;
        const uint8_t *extension = packet + start;
        if (following == ROUTING && extension[3])
            return false; /* the destination is not where it goes */
        if (following == FRAGMENT)
            offset = get16(extension + 2) >> 3;
        start += following == FRAGMENT ? SHORTEST_EXTENSION : SHORTEST_EXTENSION * (extension[1] + (size_t)1);
        following = extension[0];
    }
    head->protocol = following;
    head->source = packet + 8;
    head->destination = packet + 24;
    head->address_bytes = 16;
    head->start = start;
    return read_transport(head, size, offset, is_quoted);
}

/* The head of a packet, or of one that an ICMP error quotes; false: it must not pass. */
static bool read_head(head *head, const uint8_t *packet, size_t size, bool is_quoted) {
    unsigned version = size ? packet[0] >> 4 : 0;
    *head = (struct head){.packet = packet};
    if (version == 4)
        return size >= IPV4_BYTES && read_ipv4(head, size, is_quoted);
    return version == 6 && size >= IPV6_BYTES && read_ipv6(head, size, is_quoted);
}

static bool is_icmp(const head *head) {
    return head->protocol == ICMP || head->protocol == ICMPV6;
}

static bool is_error(const head *head) {
    if (!head->has_numbers)
        return false;
    if (head->protocol == ICMP)
        return head->port == 3 || head->port == 11 || head->port == 12;
    return head->protocol == ICMPV6 && head->port >= 1 && head->port <= 4;
}

/* --- what the rules say --------------------------------------------------------------------- */

static bool hold(const ranges *ranges, uint16_t number) {
    for (size_t at = 0; at < ranges->count; at++)
        if (ranges->ranges[at].first <= number && number <= ranges->ranges[at].last)
            return true;
    return !ranges->count;
}

/* Whether a flow may be opened: by this packet, or by what it answers. */
static bool allow(const rules *rules, const head *head, bool from_client, bool is_answer) {
    const uint8_t *near = from_client ? head->source : head->destination;
    const uint8_t *far = from_client ? head->destination : head->source;
    uint16_t source_port = is_answer ? head->port : head->source_port;
    uint16_t port = is_answer ? head->source_port : head->port;
    uint8_t opener = from_client != is_answer ? CLIENT_OPENS : OTHERS_OPEN;
    size_t size = head->address_bytes;
    for (size_t at = 0; at < rules->rule_count; at++) {
        const rule *rule = &rules->list[at];
        bool allows = rule->flags & ALLOWS;
        if (!(rule->flags & opener) || (rule->flags & HAS_PROTOCOL && rule->protocol != head->protocol))
            continue;
        if (head->has_numbers) {
            if (!hold(&rule->ports, port) || !hold(&rule->source_ports, source_port))
                continue;
        } else if (!allows && (rule->ports.count || rule->source_ports.count)) {
            continue;
        }
        if ((!rule->far.size || network_holds(&rule->far, far, size)) &&
            (!rule->near.size || network_holds(&rule->near, near, size)))
            return allows;
    }
    return false;
}

/* --- who has opened what -------------------------------------------------------------------- */

enum verdict { UNKNOWN, NEVER, ALWAYS, AS_ANSWER, UNLESS_SYN }; /* what is kept of a flow */

struct filter {
    rules *rules;
    table *verdicts[2];         /* of packets to the client, and from it */
    table *flows, *older_flows; /* that were opened, each as what its answers have */
    double ends_at;             /* of the newer table */
};

/* What the packets of a flow in one direction have in common. */
static table_key flow_of(const head *head) {
    table_key key = {{head->protocol, head->address_bytes}};
    memcpy(key.bytes + 2, head->source, head->address_bytes);
    memcpy(key.bytes + 18, head->destination, head->address_bytes);
    if (head->protocol == TCP || head->protocol == UDP) {
        put16(key.bytes + 34, head->source_port);
        put16(key.bytes + 36, head->port);
    } else if (is_icmp(head)) {
        memcpy(key.bytes + 34, head->packet + head->start + 4, 2); /* the identifier of an echo */
    }
    return key;
}

/* The same of its answers. */
static table_key answers_to(const head *head) {
    struct head turned = *head;
    turned.source = head->destination;
    turned.destination = head->source;
    turned.source_port = head->port;
    turned.port = head->source_port;
    return flow_of(&turned);
}

/* Lets the next packet of each flow note it anew. */
static void turn_over(filter *filter) {
    table *newest = filter->older_flows;
    table_clear(newest);
    filter->older_flows = filter->flows;
    filter->flows = newest;
    table_clear(filter->verdicts[0]);
    table_clear(filter->verdicts[1]);
}

static void age(filter *filter, double now) {
    bool is_long_ago = now >= filter->ends_at + answer_time;
    turn_over(filter);
    if (is_long_ago)
        table_clear(filter->older_flows);
    filter->ends_at = (is_long_ago ? now : filter->ends_at) + answer_time;
}

/* Without memory the flow stays unknown, and its answers do not pass. */
static void note(filter *filter, const table_key *flow, double now) {
    if (table_find(filter->flows, flow) != NULL)
        return;
    if (table_count(filter->flows) >= FEWEST_FLOWS) {
        turn_over(filter);
        filter->ends_at = now + answer_time;
    }
    table_put(filter->flows, flow, filter);
}

static bool was_opened(filter *filter, const table_key *flow, double now) {
    if (table_find(filter->flows, flow) != NULL)
        return true;
    if (table_find(filter->older_flows, flow) == NULL)
        return false;
    note(filter, flow, now);
    return true;
}

/* What the rules say of all packets of a flow of TCP or UDP. */
static enum verdict judge(filter *filter, const head *head, bool from_client, double now) {
    if (allow(filter->rules, head, from_client, false)) {
        table_key answers = answers_to(head);
        if (head->protocol == UDP)
            note(filter, &answers, now);
        return ALWAYS;
    }
    if (allow(filter->rules, head, from_client, true))
        return head->protocol == TCP ? UNLESS_SYN : AS_ANSWER;
    return NEVER;
}

static bool flow_passes(filter *filter, const head *head, bool from_client, double now) {
    table_key flow = flow_of(head);
    table *kept = filter->verdicts[from_client];
    enum verdict verdict = (enum verdict)(uintptr_t)table_find(kept, &flow);
    if (verdict == UNKNOWN) {
        verdict = judge(filter, head, from_client, now);
        if (table_count(kept) >= MOST_VERDICTS)
            table_clear(kept);
        table_put(kept, &flow, (void *)(uintptr_t)verdict);
    }
    if (verdict == UNLESS_SYN)
        return (head->packet[head->start + FLAGS_AT] & SYN_AND_ACK) != SYN;
    return verdict == ALWAYS || (verdict == AS_ANSWER && was_opened(filter, &flow, now));
}

/* Whether answers are known by a packet of the other side's; TCP's are known by themselves. */
static bool has_answers(const head *head) {
    if (is_icmp(head))
        return head->has_numbers && head->port == (head->protocol == ICMP ? ECHO_REQUEST : ECHO_REQUEST_V6);
    return head->has_numbers && head->protocol != TCP;
}

/* Whether it belongs to a flow that the other side may open, or has opened. */
static bool may_answer(filter *filter, const head *head, bool from_client, double now) {
    if (head->protocol == TCP || !head->has_numbers)
        return allow(filter->rules, head, from_client, true);
    if (is_icmp(head) && head->port != (head->protocol == ICMP ? ECHO_REPLY : ECHO_REPLY_V6))
        return false;
    table_key flow = flow_of(head);
    return was_opened(filter, &flow, now);
}

/* Whether the packet that an ICMP error is about would pass, the other way. */
static bool quote_passes(filter *filter, const head *error, size_t size, bool from_client, double now) {
    size_t quoted = error->start + ICMP_BYTES;
    head about;
    return read_head(&about, error->packet + quoted, size - quoted, true) &&
           about.address_bytes == error->address_bytes &&
           memcmp(about.source, error->destination, about.address_bytes) == 0 &&
           (allow(filter->rules, &about, !from_client, false) || may_answer(filter, &about, !from_client, now));
}

bool filter_passes(filter *filter, const uint8_t *packet, size_t size, bool from_client, double now) {
    head head;
    if (now >= filter->ends_at)
        age(filter, now);
    if (!read_head(&head, packet, size, false))
        return false;
    if (head.has_numbers && (head.protocol == TCP || head.protocol == UDP))
        return flow_passes(filter, &head, from_client, now);
    if (allow(filter->rules, &head, from_client, false)) {
        if (has_answers(&head)) {
            table_key answers = answers_to(&head);
            note(filter, &answers, now);
        }
        return true;
    }
    return is_error(&head) ? quote_passes(filter, &head, size, from_client, now)
                           : may_answer(filter, &head, from_client, now);
}

/* --- its life ------------------------------------------------------------------------------- */

filter *filter_new(rules **all, const uint8_t *bytes, size_t size) {
    filter *made = calloc(1, sizeof *made);
    if (made == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    int error = 0;
    made->rules = shared(all, bytes, size);
    if (made->rules == NULL) {
        error = errno;
    } else {
        made->verdicts[0] = table_new();
        made->verdicts[1] = table_new();
        made->flows = table_new();
        made->older_flows = table_new();
        bool are_made = made->verdicts[0] != NULL && made->verdicts[1] != NULL && made->flows != NULL;
        error = are_made && made->older_flows != NULL ? 0 : ENOMEM;
    }
    if (error) {
        filter_free(made);
        errno = error;
        return NULL;
    }
    return made;
}

void filter_free(filter *filter) {
    if (filter == NULL)
        return;
    if (filter->rules != NULL)
        leave(filter->rules);
    table_free(filter->verdicts[0]);
    table_free(filter->verdicts[1]);
    table_free(filter->flows);
    table_free(filter->older_flows);
    free(filter);
}
