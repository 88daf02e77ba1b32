/* Threads between the tun device and the UDP sockets; none of them knows Python.
 *
 * Each thread has a queue of the device and a socket for each address, among which the kernel
 * divides clients (SO_REUSEPORT); what it writes to its queue lets the kernel give it the answers.
 * A wake takes a bounded share of each descriptor that is ready, under the tables' lock, and sends
 * all that came of it before it lets the lock go.
 *
 * Source: Linux, net/ipv4/udp_offload.c, drivers/net/tun.c, udp(7), ip(7), ipv6(7), epoll(7).
 */

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <fcntl.h>

#include "engine.h"

/* From the kernel; older headers do not name them */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
enum { ANCILLARY_BYTES = 128 };

/* Ours: a wake that finds more leaves the rest to the next one */
enum { FRAMES_PER_WAKE = 16, BYTES_PER_WAKE = 512 << 10 };
enum { DATAGRAMS_ALONE = 4096 }; /* the same as in datagrams.py */
enum { DATAGRAMS_PER_CALL = 32, CALLS_PER_WAKE = 4, EVENTS_PER_WAKE = 32 };
/* No multiple of a page: else the beginnings of all slots would share a few lines of cache. */
enum { SLOT_BYTES = LONGEST_FRAME + 1600 };

/* Ours: while clients send much, packet by packet, a thread lets that gather for a moment and merges
 * more of it. At a low rate it never waits, nor when most goes to clients, which comes in
 * super-packets: there the wait costs more than it saves. */
enum { GATHER_NS = 50000, FEWEST_GATHERED = 2 };
static const double memory = 0.125; /* share of the latest wake in what there was lately */

enum watched { WAKE, DEVICE, SOCKET, STREAM };

typedef struct {
    loop *loop;
    pthread_t thread;
    int device, epoll, wake;
    int sockets[MOST_SOCKETS]; /* -1: not there */
    turn *turn;
    unsigned moved; /* frames and datagrams of this wake */
    size_t from_clients, from_device; /* bytes of this wake */
    double rate;                      /* of frames and datagrams in a second, lately */
    double surplus;                   /* of bytes from clients over those from the device, lately */
    uint8_t frame[LONGEST_FRAME];
    uint8_t *datagrams; /* DATAGRAMS_PER_CALL of SLOT_BYTES */
    uint8_t stream[2 * STREAM_ROOM];
} worker;

struct loop {
    engine *engine;
    turn *outside; /* for whoever is none of the threads */
    bool is_stopping;
    int count;
    worker workers[MOST_QUEUES];
};

double clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* --- to peers ------------------------------------------------------------------------------- */

typedef struct {
    struct sockaddr_storage name;
    uint8_t control[ANCILLARY_BYTES] __attribute__((aligned(8)));
    struct iovec part;
} message;

static socklen_t write_name(struct sockaddr_storage *name, const peer_path *path) {
    memset(name, 0, sizeof(struct sockaddr_in6));
    if (path->family == AF_INET) {
        struct sockaddr_in *ipv4 = (struct sockaddr_in *)name;
        ipv4->sin_family = AF_INET;
        ipv4->sin_port = htons(path->port);
        memcpy(&ipv4->sin_addr, path->host, 4);
        return sizeof *ipv4;
    }
    struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)name;
    ipv6->sin6_family = AF_INET6;
    ipv6->sin6_port = htons(path->port);
    ipv6->sin6_flowinfo = htonl(path->flow);
    ipv6->sin6_scope_id = path->scope;
    memcpy(&ipv6->sin6_addr, path->host, 16);
    return sizeof *ipv6;
}

static size_t write_control(uint8_t *control, int level, int type, const void *value, size_t size) {
    struct cmsghdr *header = (struct cmsghdr *)control;
    memset(control, 0, CMSG_SPACE(size));
    header->cmsg_level = level;
    header->cmsg_type = type;
    header->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(header), value, size);
    return CMSG_SPACE(size);
}

/* The message of these datagrams: to whom, from which address of ours, how long each is. */
static void write_message(message *message, struct msghdr *header, const peer_path *path, uint8_t *data,
                          size_t size, size_t segment) {
    size_t control = 0;
    if (segment < size) {
        uint16_t value = (uint16_t)segment;
        control += write_control(message->control, IPPROTO_UDP, UDP_SEGMENT, &value, sizeof value);
    }
    if (path->has_local && path->family == AF_INET) {
        struct in_pktinfo local = {0};
        memcpy(&local.ipi_spec_dst, path->local, 4);
        control += write_control(message->control + control, IPPROTO_IP, IP_PKTINFO, &local, sizeof local);
    } else if (path->has_local) {
        struct in6_pktinfo local = {.ipi6_ifindex = path->scope};
        memcpy(&local.ipi6_addr, path->local, 16);
        control += write_control(message->control + control, IPPROTO_IPV6, IPV6_PKTINFO, &local, sizeof local);
    }
    message->part = (struct iovec){data, size};
    *header = (struct msghdr){
        .msg_name = &message->name,
        .msg_namelen = write_name(&message->name, path),
        .msg_iov = &message->part,
        .msg_iovlen = 1,
        .msg_control = control ? message->control : NULL,
        .msg_controllen = control,
    };
}

static void count_burst(const burst *burst, size_t lost) {
    counters *counters = &burst->channel->tunnel->counters;
    size_t packets = burst->packets;
    if (lost > packets)
        lost = packets;
    if (lost)
        count(&counters->queue_full, lost);
    if (packets > lost) {
        count(&counters->sent_packets, packets - lost);
        count(&counters->sent_bytes, burst->packet_bytes * (packets - lost) / packets);
    }
}

/* Datagram by datagram, where the kernel takes no bursts; gives how many were lost. After many of
 * them bursts are tried again: the path may be wider by then. */
static size_t send_singly(int descriptor, const burst *burst) {
    channel *channel = burst->channel;
    size_t lost = 0;
    if (__atomic_add_fetch(&channel->alone, burst->datagrams, __ATOMIC_RELAXED) > DATAGRAMS_ALONE) {
        __atomic_store_n(&channel->alone, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&channel->longest_segment, 0, __ATOMIC_RELAXED);
    }
    for (size_t at = 0; at < burst->size; at += burst->segment) {
        size_t size = burst->size - at < burst->segment ? burst->size - at : burst->segment;
        message message;
        struct msghdr header;
        write_message(&message, &header, &burst->path, burst->data + at, size, size);
        lost += sendmsg(descriptor, &header, MSG_DONTWAIT) < 0;
    }
    return lost;
}

static bool may_segment(const bool *only_single, const burst *burst) {
    size_t longest = __atomic_load_n(&burst->channel->longest_segment, __ATOMIC_RELAXED);
    return burst->datagrams == 1 || (!__atomic_load_n(only_single, __ATOMIC_RELAXED) &&
                                     (!longest || burst->segment <= longest));
}

/* Whether datagrams sent one by one may pass where a burst was refused; remembers it. */
static bool do_without(bool *only_single, const burst *burst, int error) {
    if (burst->datagrams == 1)
        return false;
    if (error == EIO) { /* the device below has no checksum offload, which bursts need */
        __atomic_store_n(only_single, true, __ATOMIC_RELAXED);
        return true;
    }
    if (error == EINVAL || error == EMSGSIZE) { /* longer than the path's MTU: only whole ones may be fragmented */
        __atomic_store_n(&burst->channel->longest_segment, burst->segment - 1, __ATOMIC_RELAXED);
        return true;
    }
    return false;
}

/* Sends bursts of one socket, as many as leave together; gives how many are done with. */
static unsigned send_together(int descriptor, bool *only_single, const burst *bursts, unsigned burst_count) {
    message messages[MOST_BURSTS];
    struct mmsghdr headers[MOST_BURSTS];
    unsigned ready = 0;
    while (ready < burst_count && may_segment(only_single, &bursts[ready])) {
        const burst *burst = &bursts[ready];
        headers[ready].msg_len = 0;
        write_message(&messages[ready], &headers[ready].msg_hdr, &burst->path, burst->data, burst->size,
                      burst->datagrams > 1 ? burst->segment : burst->size);
        ready++;
    }
    if (!ready) {
        count_burst(bursts, send_singly(descriptor, bursts));
        return 1;
    }
    int sent = sendmmsg(descriptor, headers, ready, MSG_DONTWAIT);
    if (sent > 0) {
        for (int at = 0; at < sent; at++)
            count_burst(&bursts[at], 0);
        return (unsigned)sent;
    }
    if (do_without(only_single, bursts, errno))
        return 0;
    count_burst(bursts, bursts->datagrams); /* a full queue, or a path that is not there */
    return 1;
}

/* Any of an address will do: they have the same port. */
static int socket_of(const worker *worker, unsigned index) {
    int own = worker->sockets[index];
    return own >= 0 ? own : worker->loop->workers[0].sockets[index];
}

static void send_bursts(turn *turn, burst *bursts, unsigned burst_count) {
    for (unsigned at = 0; at < burst_count;) {
        unsigned index = bursts[at].path.socket, end = at + 1;
        while (end < burst_count && bursts[end].path.socket == index)
            end++;
        int descriptor = index < MOST_SOCKETS ? socket_of(turn->host, index) : -1;
        if (descriptor < 0) {
            for (; at < end; at++)
                count_burst(&bursts[at], bursts[at].datagrams);
            continue;
        }
        while (at < end)
            at += send_together(descriptor, &turn->engine->single_datagrams[index], bursts + at, end - at);
    }
}

/* --- to the device -------------------------------------------------------------------------- */

static void write_item(turn *turn, int device, const merging *merging, const item *item) {
    struct iovec parts[MOST_RUN_PIECES + 2];
    uint8_t frame_header[16] = {0}, headers[MOST_HEADERS];
    size_t header = turn->engine->device_header, skipped = 0;
    int used = 0;
    if (header) {
        skipped = merging_headers(merging, item, frame_header, header, headers);
        parts[used++] = (struct iovec){frame_header, header};
    }
    if (skipped)
        parts[used++] = (struct iovec){headers, skipped};
    for (int at = item->first; at >= 0; at = merging->pieces[at].next) {
        const piece *piece = &merging->pieces[at];
        parts[used++] = (struct iovec){(uint8_t *)piece->packet + skipped, piece->size - skipped};
    }
    if (writev(device, parts, used) >= 0)
        return;
    for (int at = item->first; at >= 0; at = merging->pieces[at].next)
        if (merging->pieces[at].tunnel != NULL)
            count(&merging->pieces[at].tunnel->counters.unroutable, 1);
}

static void write_items(turn *turn, merging *merging) {
    const worker *worker = turn->host;
    for (int at = 0; at < merging->item_count; at++)
        write_item(turn, worker->device, merging, &merging->items[at]);
}

/* --- to streams ----------------------------------------------------------------------------- */

static int watch_stream(int epoll, stream *stream, int how) {
    struct epoll_event event = {.events = EPOLLIN,
                                .data.u64 = (uint64_t)STREAM << 56 | stream->tunnel->identifier};
    if (stream->is_congested)
        event.events |= EPOLLOUT;
    return epoll_ctl(epoll, how, stream->descriptor, &event) < 0 ? errno : 0;
}

/* Streams are divided among the threads by the numbers of their tunnels. */
static int epoll_of(const loop *loop, const stream *stream) {
    return loop->workers[stream->tunnel->identifier % (unsigned)loop->count].epoll;
}

static void flush_stream(turn *turn, stream *stream) {
    const worker *worker = turn->host;
    bool was_congested = stream->is_congested;
    if (stream->is_lost)
        return;
    int error = stream_send(stream);
    if (error)
        stream_lose(turn, stream, NO_ALERT,
                    error == EPIPE || error == ECONNRESET ? "the peer closed the connection"
                                                          : "the connection was lost");
    else if (was_congested != stream->is_congested)
        watch_stream(epoll_of(worker->loop, stream), stream, EPOLL_CTL_MOD);
}

static const sinks descriptors = {send_bursts, write_items, flush_stream};

/* --- what comes ----------------------------------------------------------------------------- */

static void lose(worker *worker, int descriptor, enum event_type type, unsigned index, int error) {
    const char *why = strerrordesc_np(error);
    if (why == NULL)
        why = "unknown error";
    epoll_ctl(worker->epoll, EPOLL_CTL_DEL, descriptor, NULL);
    events_tell(&worker->loop->engine->events, type, NULL, CSTP, (uint16_t)index, NULL, (const uint8_t *)why,
                strlen(why));
}

static void read_device(worker *worker) {
    size_t room = BYTES_PER_WAKE;
    for (int number = 0; number < FRAMES_PER_WAKE; number++) {
        ssize_t size = read(worker->device, worker->frame, sizeof worker->frame);
        if (size < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
                lose(worker, worker->device, EVENT_LOST_DEVICE, 0, errno);
            return;
        }
        worker->moved++;
        worker->from_device += (size_t)size;
        engine_take_frame(worker->turn, worker->frame, (size_t)size);
        if ((size_t)size >= room)
            return;
        room -= (size_t)size;
    }
}

static void read_ancillary(struct msghdr *header, peer_path *path, size_t *segment) {
    for (struct cmsghdr *each = CMSG_FIRSTHDR(header); each != NULL; each = CMSG_NXTHDR(header, each)) {
        if (each->cmsg_level == IPPROTO_UDP && each->cmsg_type == UDP_GRO) {
            int value;
            memcpy(&value, CMSG_DATA(each), sizeof value);
            if (value > 0)
                *segment = (size_t)value;
        } else if (each->cmsg_level == IPPROTO_IP && each->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo local;
            memcpy(&local, CMSG_DATA(each), sizeof local);
            memcpy(path->local, &local.ipi_spec_dst, 4);
            path->has_local = 1;
        } else if (each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo local;
            memcpy(&local, CMSG_DATA(each), sizeof local);
            memcpy(path->local, &local.ipi6_addr, 16);
            path->has_local = 1;
        }
    }
}

static bool read_name(const struct sockaddr_storage *name, peer_path *path) {
    path->family = (uint8_t)name->ss_family;
    if (name->ss_family == AF_INET) {
        const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)name;
        path->port = ntohs(ipv4->sin_port);
        memcpy(path->host, &ipv4->sin_addr, 4);
        return true;
    }
    if (name->ss_family != AF_INET6)
        return false;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)name;
    path->port = ntohs(ipv6->sin6_port);
    path->flow = ntohl(ipv6->sin6_flowinfo);
    path->scope = ipv6->sin6_scope_id;
    memcpy(path->host, &ipv6->sin6_addr, 16);
    return true;
}

/* One call's worth of datagrams; gives how many messages there were, 0 when none wait. */
static int receive_some(worker *worker, unsigned index) {
    struct mmsghdr headers[DATAGRAMS_PER_CALL];
    message messages[DATAGRAMS_PER_CALL];
    for (int at = 0; at < DATAGRAMS_PER_CALL; at++) {
        messages[at].part = (struct iovec){worker->datagrams + (size_t)at * SLOT_BYTES, LONGEST_FRAME};
        headers[at].msg_hdr = (struct msghdr){
            .msg_name = &messages[at].name,
            .msg_namelen = sizeof messages[at].name,
            .msg_iov = &messages[at].part,
            .msg_iovlen = 1,
            .msg_control = messages[at].control,
            .msg_controllen = sizeof messages[at].control,
        };
    }
    int descriptor = worker->sockets[index];
    int received = recvmmsg(descriptor, headers, DATAGRAMS_PER_CALL, MSG_DONTWAIT, NULL);
    if (received < 0) {
        /* ICMP messages about something that we sent come as errors, and are gone with that */
        bool is_lost = errno == EBADF || errno == ENOTSOCK || errno == EFAULT || errno == EINVAL;
        if (is_lost)
            lose(worker, descriptor, EVENT_LOST_SOCKET, index, errno);
        return 0;
    }
    worker->moved += (unsigned)received;
    for (int at = 0; at < received; at++) {
        peer_path path = {.socket = (uint16_t)index};
        size_t size = headers[at].msg_len, segment = size;
        worker->from_clients += size;
        read_ancillary(&headers[at].msg_hdr, &path, &segment);
        if (size && read_name(&messages[at].name, &path))
            peers_receive(worker->turn, &path, worker->datagrams + (size_t)at * SLOT_BYTES, size,
                          segment);
    }
    turn_flush(worker->turn); /* the room is used again */
    return received;
}

static void read_socket(worker *worker, unsigned index) {
    if (index >= MOST_SOCKETS || worker->sockets[index] < 0)
        return;
    for (int number = 0; number < CALLS_PER_WAKE; number++)
        if (receive_some(worker, index) < DATAGRAMS_PER_CALL)
            return;
}

/* Waits for more where it pays. */
static void gather(worker *worker, double since) {
    double passed = worker->turn->now - since;
    double rate = passed > 0 ? worker->moved / passed : worker->rate;
    double surplus = (double)worker->from_clients - (double)worker->from_device;
    worker->rate += (rate - worker->rate) * (passed > 0.01 ? 1 : memory);
    worker->surplus += (surplus - worker->surplus) * memory;
    worker->moved = 0;
    worker->from_clients = worker->from_device = 0;
    if (worker->surplus > 0 && worker->rate * GATHER_NS * 1e-9 >= FEWEST_GATHERED) {
        struct timespec moment = {.tv_nsec = GATHER_NS};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
    }
}

static void serve_stream(worker *worker, uint64_t identifier, uint32_t ready) {
    tunnel *tunnel = engine_tunnel(worker->loop->engine, identifier);
    stream *stream = tunnel == NULL ? NULL : tunnel->tls;
    if (stream == NULL)
        return;
    if (ready & EPOLLOUT) {
        pthread_mutex_lock(&tunnel->lock);
        flush_stream(worker->turn, stream);
        pthread_mutex_unlock(&tunnel->lock);
        tunnel_send_waiting(worker->turn, tunnel);
    }
    worker->moved++;
    if (ready & (EPOLLIN | EPOLLHUP | EPOLLERR))
        worker->from_clients += stream_receive(worker->turn, stream, worker->stream);
    if (stream->is_lost || stream->waits_for_keys) /* or it would be ready for ever */
        epoll_ctl(worker->epoll, EPOLL_CTL_DEL, stream->descriptor, NULL);
}

static void *run(void *context) {
    worker *worker = context;
    engine *engine = worker->loop->engine;
    struct epoll_event ready[EVENTS_PER_WAKE];
    prctl(PR_SET_TIMERSLACK, 1); /* or the kernel would add as much again to a short wait */
    while (!__atomic_load_n(&worker->loop->is_stopping, __ATOMIC_ACQUIRE)) {
        int number = epoll_wait(worker->epoll, ready, EVENTS_PER_WAKE, -1);
        if (number <= 0)
            continue;
        pthread_rwlock_rdlock(&engine->tables);
        double since = worker->turn->now;
        worker->turn->now = clock_now();
        for (int at = 0; at < number; at++) {
            enum watched watched = (enum watched)(ready[at].data.u64 >> 56);
            uint64_t which = ready[at].data.u64 & ~((uint64_t)0xFF << 56);
            if (watched == DEVICE)
                read_device(worker);
            else if (watched == SOCKET)
                read_socket(worker, (unsigned)which);
            else if (watched == STREAM)
                serve_stream(worker, which, ready[at].events);
        }
        turn_flush(worker->turn);
        pthread_rwlock_unlock(&engine->tables);
        gather(worker, since);
    }
    return NULL;
}

/* --- its life ------------------------------------------------------------------------------- */

static int watch(int epoll, int descriptor, enum watched watched, unsigned index) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)watched << 56 | index};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) < 0 ? errno : 0;
}

static bool prepare(worker *worker, loop *loop, int device) {
    errno = 0;
    worker->loop = loop;
    for (int at = 0; at < MOST_SOCKETS; at++)
        worker->sockets[at] = -1;
    worker->device = fcntl(device, F_DUPFD_CLOEXEC, 3);
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    worker->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->turn = turn_new(loop->engine, &descriptors, worker);
    worker->datagrams = malloc((size_t)DATAGRAMS_PER_CALL * SLOT_BYTES);
    return worker->device >= 0 && worker->epoll >= 0 && worker->wake >= 0 && worker->turn != NULL &&
           worker->datagrams != NULL && watch(worker->epoll, worker->wake, WAKE, 0) == 0 &&
           watch(worker->epoll, worker->device, DEVICE, 0) == 0;
}

static void discard(worker *worker) {
    if (worker->device >= 0)
        close(worker->device);
    if (worker->epoll >= 0)
        close(worker->epoll);
    if (worker->wake >= 0)
        close(worker->wake);
    if (worker->turn != NULL)
        turn_free(worker->turn);
    free(worker->datagrams);
}

static int start_thread(worker *worker) {
    /* Signals are for Python's main thread */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&worker->thread, NULL, run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        pthread_setname_np(worker->thread, "anyvpn-packets");
    return error;
}

loop *loop_start(engine *engine, const int *devices, int device_count) {
    loop *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->engine = engine;
    int error = 0;
    for (int at = 0; at < device_count && !error; at++) {
        worker *worker = &made->workers[at];
        if (prepare(worker, made, devices[at])) {
            error = start_thread(worker);
        } else {
            error = errno ? errno : ENOMEM;
        }
        if (error)
            discard(worker);
        else
            made->count++;
    }
    if (!error)
        made->outside = turn_new(engine, &descriptors, &made->workers[0]);
    if (error || made->outside == NULL) {
        loop_stop(made);
        errno = error ? error : ENOMEM;
        return NULL;
    }
    return made;
}

void loop_stop(loop *loop) {
    __atomic_store_n(&loop->is_stopping, true, __ATOMIC_RELEASE);
    for (int at = 0; at < loop->count; at++) {
        uint64_t one = 1;
        if (write(loop->workers[at].wake, &one, sizeof one) == sizeof one)
            pthread_join(loop->workers[at].thread, NULL);
    }
    size_t place = 0;
    for (tunnel *each; (each = table_next(loop->engine->tunnels, &place)) != NULL;)
        if (each->tls != NULL)
            each->tls->watcher = -1; /* its epoll set goes */
    for (int at = 0; at < loop->count; at++)
        discard(&loop->workers[at]);
    if (loop->outside != NULL)
        turn_free(loop->outside);
    free(loop);
}

turn *loop_turn(loop *loop) {
    return loop->outside;
}

int loop_add_socket(loop *loop, unsigned number, unsigned index, int descriptor) {
    worker *worker = &loop->workers[number];
    if (worker->sockets[index] >= 0)
        return EBUSY;
    loop->engine->single_datagrams[index] = false;
    worker->sockets[index] = descriptor;
    int error = watch(worker->epoll, descriptor, SOCKET, index);
    if (error)
        worker->sockets[index] = -1;
    return error;
}

void loop_remove_socket(loop *loop, unsigned index) {
    for (int at = 0; at < loop->count; at++) {
        worker *worker = &loop->workers[at];
        if (worker->sockets[index] >= 0)
            epoll_ctl(worker->epoll, EPOLL_CTL_DEL, worker->sockets[index], NULL);
        worker->sockets[index] = -1;
    }
}

int loop_count(const loop *loop) {
    return loop->count;
}

void loop_add_stream(turn *turn, stream *stream) {
    const worker *worker = turn->host;
    int epoll = epoll_of(worker->loop, stream);
    if (watch_stream(epoll, stream, EPOLL_CTL_ADD))
        stream_lose(turn, stream, INTERNAL_ERROR, "the connection cannot be watched");
    else
        stream->watcher = epoll;
}
