/* The compiled packet engine: what its parts are and what they say to each other.
 *
 *   tun ──▶ segments ──▶ routes ──▶ filters ──▶ tunnels ──▶ records ──▶ bursts ──▶ UDP
 *   tun ◀── merging ◀─── routes ◀── filters ◀── tunnels ◀── records ◀── peers ◀─── UDP
 *                           └─────▶ another tunnel
 *
 * It does what engine.py does, on bytes of its own and without Python: module.c alone knows
 * Python. All that crosses the border between the threads of loop.c and the reactor's is under
 * one of two locks:
 *
 *   engine.tables   read by whoever moves packets, for the length of one batch; written by whoever
 *                   adds or takes away a tunnel, a channel, a path or a socket
 *   tunnel.lock     one tunnel's keys, sequence numbers, times, waiting packets and filter;
 *                   taken within the other one
 *
 * and events.c, whose queue is the way back to the reactor. Counters are atomic.
 */

#ifndef ANYVPN_ENGINE_H
#define ANYVPN_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/evp.h>

/* From the protocol (protocol reference, sections 9.1 and 12.4; RFC 6347) */
enum kind { DATA = 0, DPD_REQUEST = 3, DPD_RESPONSE = 4, DISCONNECT = 5, KEEPALIVE = 7, COMPRESSED = 8 };
enum { RECORD_HEADER_BYTES = 13, NONCE_BYTES = 8, TAG_BYTES = 16, KIND_BYTES = 1 };
enum { RECORD_OVERHEAD = RECORD_HEADER_BYTES + NONCE_BYTES + KIND_BYTES + TAG_BYTES };
enum { PACKET_AT = RECORD_HEADER_BYTES + NONCE_BYTES + KIND_BYTES };
enum { TLS_ALERT = 21, TLS_HANDSHAKE = 22, APPLICATION_DATA = 23 };
/* What the peer of a stream is told at the end (RFC 8446, section 6.2; RFC 5246, section 7.2.2) */
enum alert {
    CLOSE_NOTIFY = 0, UNEXPECTED_MESSAGE = 10, BAD_RECORD_MAC = 20, RECORD_OVERFLOW = 22,
    DECODE_ERROR = 50, PROTOCOL_VERSION = 70, INTERNAL_ERROR = 80, NO_RENEGOTIATION = 100,
    NO_ALERT = 256 /* none: the connection is gone, or ours to write on no more */
};
enum { LONGEST_RECORD_BODY = (1 << 14) + 2048 };

/* From the kernel */
enum { LONGEST_PACKET = 65535, LONGEST_FRAME = 65536 + 16, MOST_SEGMENTS = 64 };

/* Ours; those that engine.py has too are the same there */
enum { MOST_RECORDS_IN_DATAGRAM = 64, WINDOW_RECORDS = 1024 };
enum { MOST_WAITING = 64, MOST_WAITING_FOR_REACTOR = 1024 };
enum { MOST_SOCKETS = 64, MOST_QUEUES = 16 };

enum channel_name { CSTP = 0, DTLS = 1, CHANNELS = 2 };

/* --- tables.c: keys of up to 40 bytes to pointers ----------------------------------------- */

typedef struct { uint8_t bytes[40]; } table_key;

typedef struct table table;

table *table_new(void);
void table_free(table *table);
void *table_find(const table *table, const table_key *key);
bool table_put(table *table, const table_key *key, void *value); /* false: no memory */
void table_remove(table *table, const table_key *key);
void table_clear(table *table);
size_t table_count(const table *table);
uint64_t key_hash(const table_key *key, uint64_t seed);
/* Walks over all values: start with *at = 0; NULL at the end. */
void *table_next(const table *table, size_t *at);

/* --- checksums.c: the Internet's sums ------------------------------------------------------ */

/* Big-endian 16-bit words, not folded to the end; an odd length ends in zero (RFC 1071). */
uint64_t word_sum(const uint8_t *data, size_t size);
uint64_t copy_word_sum(uint8_t *to, const uint8_t *from, size_t size);
/* Minus the sum modulo 65535: what fills a checksum field in; 0 where the sum is 0. */
uint16_t checksum_of(uint64_t sum);

static inline uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static inline uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }
static inline void put16(uint8_t *at, unsigned value) { at[0] = (uint8_t)(value >> 8); at[1] = (uint8_t)value; }
static inline void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16); put16(at + 2, value & 0xFFFF); }

/* --- segments.c: super-packets of the tun device to packets -------------------------------- */

typedef struct {
    uint8_t *packet; /* the whole one */
    size_t size;
    size_t headers; /* before the payload of each segment; 0: the packet goes as it is */
    size_t segment; /* payload of each but the last */
    size_t at;      /* of the payload that comes next */
    size_t ip;      /* bytes of the IP header */
    bool is_tcp;
    uint16_t ident;
    uint32_t sequence;
    uint64_t ip_sum, transport_sum;
    uint8_t flags;
} segments;

/* Looks at a frame of the device, whose header is `header` bytes long; checksums that wait are
 * filled in, in place. False: there is nothing in it. */
bool segments_begin(segments *segments, uint8_t *frame, size_t size, size_t header);
void segments_of_packet(segments *segments, const uint8_t *packet, size_t size);
size_t segments_count(const segments *segments); /* before the first was written */
size_t segments_next(const segments *segments); /* the size of the next packet; 0: no more */
void segments_write(segments *segments, uint8_t *at);

/* --- aead.c, gcm.c: what seals and opens ---------------------------------------------------------- */

enum cipher { AES_128_GCM = 1, AES_256_GCM = 2, CHACHA20_POLY1305 = 3 };
enum { AEAD_NONCE_BYTES = 12 };

typedef struct gcm gcm;

typedef struct {
    EVP_CIPHER_CTX *context;
    gcm *gcm; /* instead of a context; both NULL: there is none */
} aead;

size_t cipher_key_bytes(enum cipher cipher);
bool aead_init(aead *aead, enum cipher cipher, const uint8_t *key, bool seals);
void aead_clear(aead *aead);
/* In place; the tag is written behind. */
bool aead_seal(aead *aead, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *covered,
               size_t covered_size, uint8_t *data, size_t size);
/* `out` may be `data`; the tag is read behind. False: it does not authenticate. */
bool aead_open(aead *aead, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *covered,
               size_t covered_size, const uint8_t *data, size_t size, uint8_t *out);

/* What does AES-GCM instead of libcrypto, with its version; NULL: nothing does. */
const char *gcm_library(void);
void gcm_want(bool wanted); /* for tests: or libcrypto for all keys from now on */
gcm *gcm_new(enum cipher cipher, const uint8_t *key); /* NULL, with errno: no memory */
void gcm_free(gcm *gcm);
/* Sizes and places as those of an aead. */
void gcm_seal(const gcm *gcm, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *covered,
              size_t covered_size, uint8_t *data, size_t size);
bool gcm_open(const gcm *gcm, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *covered,
              size_t covered_size, const uint8_t *data, size_t size, uint8_t *out);

/* --- records.c: DTLS records, sealed and opened -------------------------------------------- */

typedef struct {
    aead seal, open;
    uint8_t write_iv[AEAD_NONCE_BYTES], read_iv[AEAD_NONCE_BYTES]; /* fixed part, then what changes */
    uint8_t head[5];                                               /* type, version, epoch of all */
    uint64_t next, end;                                            /* epoch and sequence together */
    int64_t highest;
    uint64_t seen[WINDOW_RECORDS / 64];
} records;

bool records_init(records *records, const uint8_t version[2], uint16_t epoch, uint64_t sequence,
                  enum cipher cipher, const uint8_t *write_key, const uint8_t write_iv[4],
                  const uint8_t *read_key, const uint8_t read_iv[4]);
void records_clear(records *records);
/* Whether a datagram is one data record of this epoch and nothing else. */
bool records_hold_whole(const records *records, const uint8_t *datagram, size_t size);
/* Seals what stands at `at + PACKET_AT`; gives the record's size, 0 when no number is left. */
size_t records_seal(records *records, uint8_t *at, uint8_t kind, size_t size);
/* Opens one whole record into `out`, which may be the record's own body; gives the payload's
 * size, -1 when it does not authenticate, was seen before, or is too short. */
long records_open(records *records, const uint8_t *record, size_t size, uint8_t *out);
static inline uint64_t record_sequence(const uint8_t *record) {
    return (uint64_t)get16(record + 5) << 32 | get32(record + 7);
}

/* --- routes.c: inner addresses to tunnels -------------------------------------------------- */

typedef struct tunnel tunnel;

typedef struct {
    uint8_t size; /* 4 or 16 */
    uint8_t prefix;
    uint8_t address[16];
} network;

typedef struct {
    table *addresses, *networks;
    uint32_t prefixes[2][129]; /* how many networks have each length, by family */
} routes;

bool routes_init(routes *routes);
void routes_clear(routes *routes);
bool routes_add(routes *routes, const network *network, tunnel *tunnel);
void routes_remove(routes *routes, const network *network, const tunnel *tunnel);
tunnel *routes_find(const routes *routes, const uint8_t *address, size_t size);
bool network_holds(const network *network, const uint8_t *address, size_t size);
/* The address that a packet goes to or comes from; NULL when it is no packet. */
const uint8_t *packet_destination(const uint8_t *packet, size_t size, size_t *address_bytes);
const uint8_t *packet_source(const uint8_t *packet, size_t size, size_t *address_bytes);

/* --- peers.c: outer addresses to DTLS channels --------------------------------------------- */

typedef struct {
    uint16_t socket;
    uint8_t family; /* AF_INET or AF_INET6 */
    uint8_t has_local;
    uint16_t port; /* in the machine's order */
    uint32_t flow, scope;
    uint8_t host[16], local[16];
} peer_path;

typedef struct channel channel;
struct channel { /* DTLS */
    tunnel *tunnel;
    peer_path path;
    bool is_foreign; /* its records are Python's: another suite, or compressed */
    bool is_spent;   /* no sequence number is left */
    records records;
    size_t longest_segment; /* 0: bursts of any size have passed */
    unsigned alone;         /* datagrams that were longer, since then */
    channel *next_of_host, *previous_of_host, *next, *previous; /* rings */
};

typedef struct {
    table *by_path, *by_host;
    channel *ring; /* native ones, in turn */
    double second;
    unsigned left;       /* trials in this second, for all */
    table *used_by_host; /* and for each host */
} peers;

typedef struct engine engine;
typedef struct turn turn;

table_key host_key(const peer_path *path);
bool peers_init(peers *peers);
void peers_clear(peers *peers);
bool peers_add(peers *peers, channel *channel);
void peers_remove(peers *peers, channel *channel);
/* Takes datagrams of one sender in, of `segment` bytes each but the last: opens them, tries who has
 * moved, or hands them up. What is opened stays where it is until the turn is flushed. */
void peers_receive(turn *turn, const peer_path *path, uint8_t *data, size_t size, size_t segment);
/* Whether a datagram that was handed up is a record of a channel that is there by now. */
bool peers_receive_late(turn *turn, const peer_path *path, uint8_t *datagram, size_t size);

/* --- streams.c: CSTP over TLS -------------------------------------------------------------- */

enum { TLS_HEADER_BYTES = 5, FRAME_HEADER_BYTES = 8, LONGEST_CONTROL = 16376 };
enum { STREAM_OVERHEAD = TLS_HEADER_BYTES + NONCE_BYTES + FRAME_HEADER_BYTES + 1 + TAG_BYTES };
enum { STREAM_ROOM = 65536 }; /* a whole record and its header fit well */
enum { LONGEST_REASON = 80 };

typedef struct buffer {
    uint8_t *bytes;
    size_t size, capacity;
} buffer;

typedef struct event event;
typedef struct stream stream;
struct stream {
    tunnel *tunnel;
    int descriptor; /* ours alone, and ours to close; -1: it is not there yet, or no more */
    int watcher;    /* the epoll set that has the descriptor; -1: none */
    uint8_t number; /* among its tunnel's, what events about it say */
    enum cipher cipher;
    bool is_tls13, has_explicit_nonce;
    bool is_congested;   /* the socket takes nothing now */
    atomic_bool is_lost; /* the reactor knows, and will take it away */
    event *loss;         /* what tells it then, with room for the longest reason */
    enum alert alert;    /* what the peer is told of it */
    bool waits_for_keys; /* the reactor looks at a message of the handshake's kind */
    bool is_in_turn;     /* a turn will send what is unsent */
    aead seal, open;
    uint8_t write_iv[AEAD_NONCE_BYTES], read_iv[AEAD_NONCE_BYTES];
    uint64_t write_sequence, read_sequence;
    buffer record, frame; /* the beginning of what has not come whole */
    buffer unsent;
};

/* Without a descriptor, until all that can fail is done. */
stream *stream_new(bool is_tls13, enum cipher cipher, uint64_t write_sequence, uint64_t read_sequence);
void stream_free(stream *stream);
int stream_release(stream *stream); /* the descriptor, which is the caller's from now on */
bool stream_set_keys(stream *stream, bool seals, const uint8_t *key, const uint8_t iv[AEAD_NONCE_BYTES]);
/* What came of a frame before the records were ours. */
bool stream_begin_frame(stream *stream, const uint8_t *data, size_t size);
/* Room for a record's content of that size, until it is committed; NULL: no memory. */
uint8_t *stream_reserve(stream *stream, size_t size);
bool stream_commit(stream *stream, uint8_t type, size_t size);
void stream_frame(uint8_t *at, uint8_t kind, size_t size);
bool stream_wants_keys(const stream *stream);
bool stream_is_full(const stream *stream);
bool stream_takes_control(const stream *stream, uint8_t kind);
bool stream_takes_message(const stream *stream); /* of the handshake's kind */
int stream_send(stream *stream); /* 0 or an errno */
/* Takes one share of what waits at the socket, and gives its size; `room` is 2 * STREAM_ROOM bytes. */
size_t stream_receive(turn *turn, stream *stream, uint8_t *room);
/* Opens what was kept, and `more` after it: with the keys that are there now. */
void stream_go_on(turn *turn, stream *stream, const uint8_t *more, size_t size);
void stream_lose(turn *turn, stream *stream, enum alert alert, const char *why);
/* Adds the last words to what is unsent: what it was lost for, or else this. Gives how many bytes of it are to
 * go out yet: none where no alert may be sent. */
size_t stream_end(stream *stream, enum alert alert);

/* --- filters.c: which packets of a tunnel pass ---------------------------------------------- */

typedef struct {
    const uint8_t *bytes;
    size_t size;
} slice;

/* The rules of tunnels that have the same ones; whoever attaches and detaches owns them.
 *
 *     each: flags (1)  protocol (1)  far network  near network  ports  source ports
 *     flags: 1 it allows, 2 clients open, 4 others open, 8 it is about that protocol only
 *     a network: bytes of its address, 0 for any (1)  prefix (1)  address
 *     ports: how many ranges, 0 for any (1)  of each the first (2)  the last (2) */
typedef struct rules rules;

typedef struct filter filter;

/* NULL, with errno: these are no rules (EINVAL), or there is no memory. */
filter *filter_new(rules **all, const uint8_t *bytes, size_t size);
void filter_free(filter *filter);
/* Whether a packet passes; those that come next are judged as if this one had come. */
bool filter_passes(filter *filter, const uint8_t *packet, size_t size, bool from_client, double now);

/* --- tunnels.c: one tunnel on the packet path ---------------------------------------------- */

/* How much of what the reactor is told somebody has said since it was heard the last time. */
typedef struct share {
    uint64_t round;
    size_t bytes;
} share;

enum { CONTROLS, PACKETS, SHARES }; /* of a tunnel: what its client says, what Python has to carry */

typedef struct packet_node packet_node;
struct packet_node {
    packet_node *next;
    size_t size;
    uint8_t bytes[];
};

typedef struct {
    double received_at, sent_at, probed_at, round_trip;
    bool awaits_answer;
} channel_times;

typedef struct {
    uint64_t received_packets, received_bytes, sent_packets, sent_bytes;
    uint64_t spoofed, malformed, queue_full, unroutable, filtered;
    double data_at;
} counters;

enum way { WAY_WAIT, WAY_DTLS, WAY_TLS, WAY_REACTOR };

struct tunnel {
    uint64_t identifier;
    pthread_mutex_t lock;
    size_t mtu;
    network *own; /* addresses, then networks behind the client */
    size_t own_count, address_count;
    const uint8_t *ipv4, *ipv6; /* the first address of each family, for a quick look */
    bool has_cstp;              /* a stream of Python's, or `tls` */
    bool is_congested;          /* which takes nothing now */
    bool is_quiet;              /* the client's data comes over CSTP although DTLS is there */
    bool asked_reactor;         /* an event says already that packets wait for it */
    channel *dtls;
    stream *tls; /* the CSTP channel, when it is not Python's */
    uint8_t streams; /* how many there were of these, and the number of the last */
    channel_times times[CHANNELS];
    counters counters;
    packet_node *waiting, *last_waiting;
    size_t waiting_count;
    filter *filter; /* NULL: everything passes */
    share told[SHARES]; /* under the lock of events.c */
};

tunnel *tunnel_new(uint64_t identifier, size_t mtu, const network *own, size_t own_count,
                   size_t address_count);
void tunnel_free(tunnel *tunnel);
/* What the device or another tunnel has for it, as far as it may come to it; `lock` is taken within. */
void tunnel_forward(turn *turn, tunnel *tunnel, segments *segments);
/* What is judged already, or our own. */
void tunnel_send(turn *turn, tunnel *tunnel, segments *segments);
void tunnel_send_waiting(turn *turn, tunnel *tunnel);
/* Whether what waits is for a channel of the reactor's, and which that is. Under the tunnel's lock. */
bool tunnel_needs_reactor(const tunnel *tunnel, bool *by_dtls);
void tunnel_send_control(turn *turn, tunnel *tunnel, enum channel_name name, uint8_t kind,
                         const uint8_t *payload, size_t size);
bool tunnel_wait(tunnel *tunnel, const uint8_t *packet, size_t size, bool first);

typedef struct {
    const uint8_t *payload;
    size_t size;
    uint8_t kind;
} frame;

enum { MOST_FRAMES = 64 };

/* What its client has sent over one of its channels. */
void tunnel_take_frames(turn *turn, tunnel *tunnel, enum channel_name name, const frame *frames,
                        size_t frame_count);
/* At most MOST_FRAMES packets of its client, whatever channel they came over. */
void tunnel_take_packets(turn *turn, tunnel *tunnel, const slice *packets, size_t packet_count);

static inline void count(uint64_t *counter, uint64_t more) {
    __atomic_fetch_add(counter, more, __ATOMIC_RELAXED);
}
static inline uint64_t counted(const uint64_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}
static inline void set_time(double *time, double value) {
    __atomic_store(time, &value, __ATOMIC_RELAXED);
}
static inline double get_time(const double *time) {
    double value;
    __atomic_load(time, &value, __ATOMIC_RELAXED);
    return value;
}

/* --- merging.c: packets to super-packets for the tun device -------------------------------- */

enum { MOST_PIECES = 1024, MOST_RUN_PIECES = 256, MOST_HEADERS = 100, MOST_OPEN_RUNS = 64 };

typedef struct {
    const uint8_t *packet;
    size_t size;
    tunnel *tunnel;
    int next; /* of its run; -1: the last */
} piece;

/* What is merged for a device: nothing for one without super-packets; datagrams, too, since Linux 6.2. */
enum merged { MERGED_NOTHING, MERGED_SEGMENTS, MERGED_DATAGRAMS };

typedef struct {
    size_t ip, headers; /* of IP; with those of the transport */
    uint8_t protocol, flags; /* TCP's */
} packet_shape;

typedef struct {
    int first, last, pieces;
    bool is_closed, is_first_checked;
    packet_shape shape;
    size_t segment, size;
    uint32_t next_sequence;
    uint16_t next_ident;
    int ident_step; /* -1: not known yet */
} item;

typedef struct {
    piece pieces[MOST_PIECES];
    item items[MOST_PIECES];
    int piece_count, item_count;
    int open_runs[MOST_OPEN_RUNS]; /* items, the newest last */
    int open_count;
} merging;

void merging_reset(merging *merging);
/* False: it is full, and must be written first. */
bool merging_add(merging *merging, const uint8_t *packet, size_t size, tunnel *tunnel, enum merged merged);
/* The frame's header, `header` bytes, and the packet's own for a run; gives the latter's size. */
size_t merging_headers(const merging *merging, const item *item, uint8_t *frame_header, size_t header,
                       uint8_t headers[MOST_HEADERS]);

/* --- turns.c: what one thread has in hand -------------------------------------------------- */

typedef struct {
    channel *channel;
    peer_path path; /* as it was when the first record was sealed */
    uint8_t *data;
    size_t size, segment;
    unsigned datagrams, packets; /* of which packets are data */
    size_t packet_bytes;
    bool is_closed; /* a shorter one was the last */
} burst;

enum { MOST_BURSTS = 64, MOST_STREAMS = 64, ARENA_BYTES = 256 * 1024 };

typedef struct {
    void (*send)(turn *turn, burst *bursts, unsigned count);
    void (*write)(turn *turn, merging *merging);
    void (*flush)(turn *turn, stream *stream); /* under the tunnel's lock */
} sinks;

struct turn {
    engine *engine;
    const sinks *sinks;
    void *host; /* of the sinks */
    double now;
    uint8_t arena[ARENA_BYTES];
    size_t used;
    burst bursts[MOST_BURSTS];
    unsigned burst_count;
    stream *streams[MOST_STREAMS]; /* with something unsent */
    unsigned stream_count;
    merging merging;
    uint8_t scratch[LONGEST_FRAME]; /* for what goes nowhere, or to the reactor */
    uint8_t claimed[LONGEST_FRAME]; /* what a peer with a new address has sent */
};

turn *turn_new(engine *engine, const sinks *sinks, void *host);
void turn_free(turn *turn);
/* Room for a record of that size, until turn_commit; both under the tunnel's lock. */
uint8_t *turn_reserve(turn *turn, size_t size);
void turn_commit(turn *turn, channel *channel, size_t size, size_t packet_bytes, bool is_data);
/* The stream has something to send; under the tunnel's lock. */
void turn_send_stream(turn *turn, stream *stream);
void turn_write(turn *turn, tunnel *tunnel, const uint8_t *packet, size_t size);
void turn_flush(turn *turn);

/* --- events.c: what the reactor is told ---------------------------------------------------- */

enum event_type {
    EVENT_CONTROL = 1, /* channel, kind, payload */
    EVENT_MOVED,       /* path */
    EVENT_DATAGRAM,    /* path, datagram: of no channel of ours */
    EVENT_FOREIGN,     /* path, datagram: of a channel that is Python's */
    EVENT_TOO_LONG,    /* packet */
    EVENT_WAITING,     /* packets wait for the stream */
    EVENT_SPENT,       /* no sequence number is left */
    EVENT_LOST_DEVICE, /* text */
    EVENT_LOST_SOCKET, /* its index as the kind, text */
    EVENT_LOST_STREAM, /* text */
    EVENT_HANDSHAKE,   /* a message that came under TLS */
    EVENT_OLD_KEYS,    /* enough was sealed under the keys of the stream */
};

struct event {
    event *next;
    enum event_type type;
    enum channel_name name;
    uint16_t kind; /* of a control packet, 256 times its stream's number above it */
    uint64_t tunnel; /* 0: none */
    peer_path path;
    size_t size;
    uint8_t bytes[];
};

enum { STRANGERS = 256 };

typedef struct {
    pthread_mutex_t lock;
    event *first, *last;
    uint64_t round, seed;
    size_t from_tunnels, from_strangers; /* of this round, but what was each one's own */
    share strangers[STRANGERS];   /* by their hosts' hashes */
    int wake; /* an eventfd that is written to when the first event comes; -1: nobody waits */
    uint64_t dropped;
} events;

bool events_init(events *events);
void events_clear(events *events);
/* Copies what it is given; false: there is no room, and it is dropped and counted. There always is,
 * memory apart, for what comes once: a loss, new keys, packets that wait. */
bool events_tell(events *events, enum event_type type, tunnel *tunnel, enum channel_name name,
                 uint16_t kind, const peer_path *path, const uint8_t *bytes, size_t size);
/* By an event that was made before, where memory may not be had later. */
event *event_new(size_t size); /* NULL: no memory */
bool events_tell_by(events *events, event *made, enum event_type type, tunnel *tunnel, enum channel_name name,
                    uint16_t kind, const peer_path *path, const uint8_t *bytes, size_t size);
event *events_take(events *events); /* all of them; the caller frees each */
void events_return(events *events, event *first); /* those that could not be heard, before all others */

/* --- the engine ---------------------------------------------------------------------------- */


struct engine {
    pthread_rwlock_t tables;
    table *tunnels; /* by identifier */
    rules *rules;   /* that any of them has */
    routes routes;
    peers peers;
    pthread_mutex_t peers_lock; /* trials and moves, which change tables while packets flow */
    events events;
    bool follows_client;
    size_t device_header;
    enum merged merged;
    uint64_t unroutable;
    bool single_datagrams[MOST_SOCKETS]; /* the device below takes no bursts */
};

engine *engine_new(bool follows_client, size_t device_header, bool takes_datagrams);
void engine_free(engine *engine);
tunnel *engine_tunnel(engine *engine, uint64_t identifier);
bool engine_attach(engine *engine, tunnel *tunnel); /* takes it over */
void engine_detach(engine *engine, uint64_t identifier);
void engine_set_tls(engine *engine, tunnel *tunnel, stream *stream); /* takes it over; NULL: none */
bool engine_set_dtls(engine *engine, tunnel *tunnel, channel *channel); /* takes it over; NULL: none */
/* A frame of the device, which may be changed in place. */
void engine_take_frame(turn *turn, uint8_t *frame, size_t size);

/* --- loop.c: threads between the device and the sockets ------------------------------------ */

typedef struct loop loop;

/* Duplicates the device's descriptors, one for each thread. NULL, with errno, when it cannot. */
loop *loop_start(engine *engine, const int *devices, int count);
void loop_stop(loop *loop); /* none of its threads runs any more; without the tables' lock */
/* Each thread has a socket of its own for an address, or the first one has the only one. */
int loop_add_socket(loop *loop, unsigned worker, unsigned index, int descriptor); /* errno or 0 */
void loop_remove_socket(loop *loop, unsigned index);
int loop_count(const loop *loop);
void loop_add_stream(turn *turn, stream *stream); /* which is lost when it cannot be watched */
/* A turn for whoever is not one of its threads. */
turn *loop_turn(loop *loop);
double clock_now(void);

#endif
