/* What happens when there is no memory: every allocation of two scenarios fails once, alone or with
 * all that follow. What it was for may be missing then; nothing else is, and nothing is left.
 *
 * The linker leads all calls of the engine here (--wrap), libcrypto is told. tools/check-engine
 * builds and runs it, with AddressSanitizer, which tells of leaks, too.
 */

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "failing_memory.h"
#include "scene.h"

static void *libcryptos_malloc(size_t size, const char *file, int line) {
    (void)file, (void)line;
    return size ? __wrap_malloc(size) : NULL;
}

static void *libcryptos_realloc(void *old, size_t size, const char *file, int line) {
    (void)file, (void)line;
    return __wrap_realloc(old, size);
}

static void libcryptos_free(void *old, const char *file, int line) {
    (void)file, (void)line;
    free(old);
}

/* --- packets -------------------------------------------------------------------------------- */

enum { TUNNELS = 14, NATIVE = 7, FOREIGN = 9, TLS13 = 10, TLS12 = 11, FILTERED = 12, LATE = 200 };

static uint8_t room[LONGEST_FRAME];

static size_t write_packet(uint8_t *at, uint8_t from, uint8_t to, size_t size) {
    memset(at, 0, size);
    at[0] = 0x45;
    put16(at + 2, (unsigned)size);
    const uint8_t addresses[8] = {10, 9, 0, from, 10, 9, 0, to};
    memcpy(at + 12, addresses, sizeof addresses);
    return size;
}

static void from_device(scene *scene, uint8_t to, size_t size) {
    memset(room, 0, 10);
    write_packet(room + 10, 255, to, size);
    engine_take_frame(scene->turn, room, 10 + size);
    turn_flush(scene->turn);
}

/* Peers have all the memory that they want. */
static size_t sealed(scene *scene, uint8_t number, uint64_t sequence, uint8_t kind) {
    uint8_t payload[121] = {kind};
    input input = {payload, 1 + write_packet(payload + 1, number, 254, 120)};
    bool did_fail = memory_fails;
    memory_fails = false;
    size_t size = scene_record(scene, number, sequence, room, &input);
    memory_fails = did_fail;
    return size;
}

static void from_client(scene *scene, uint8_t number, uint64_t sequence, uint8_t kind, uint8_t path_of) {
    peer_path path = scene_path(path_of);
    size_t size = sealed(scene, number, sequence, kind);
    peers_receive(scene->turn, &path, room, size, size);
    turn_flush(scene->turn);
}

static void from_stranger(scene *scene) {
    peer_path path = scene_path(99);
    uint8_t hello[40] = {22, 0xFE, 0xFD, [12] = 27};
    peers_receive(scene->turn, &path, hello, sizeof hello, sizeof hello);
    turn_flush(scene->turn);
}

static void from_stream(scene *scene, stream *stream, uint8_t type, uint8_t kind, size_t cut) {
    if (stream == NULL || stream->is_lost || stream->waits_for_keys)
        return;
    uint8_t frame[FRAME_HEADER_BYTES + 120];
    stream_frame(frame, kind, write_packet(frame + FRAME_HEADER_BYTES, (uint8_t)stream->tunnel->identifier, 254, 120));
    input input = {frame, sizeof frame};
    bool did_fail = memory_fails;
    memory_fails = false;
    size_t size = scene_tls_record(stream, type, room, &input);
    memory_fails = did_fail;
    stream_go_on(scene->turn, stream, room, cut);
    if (!stream->is_lost && !stream->waits_for_keys)
        stream_go_on(scene->turn, stream, room + cut, size - cut);
    turn_flush(scene->turn);
}

static void over_a_stream(scene *scene, uint8_t number) {
    tunnel *tunnel = engine_tunnel(scene->engine, number);
    stream *stream = tunnel == NULL ? NULL : tunnel->tls;
    from_stream(scene, stream, APPLICATION_DATA, DATA, 30);
    from_stream(scene, stream, APPLICATION_DATA, 200, 3);
    from_stream(scene, stream, APPLICATION_DATA, DPD_REQUEST, 50);
    scene->takes = 0;
    for (int times = 0; times < 3; times++)
        from_device(scene, number, 1000);
    scene->takes = 1 << 20;
    if (tunnel != NULL)
        tunnel_send_waiting(scene->turn, tunnel);
    from_stream(scene, stream, TLS_HANDSHAKE, 0, 20);
    static const uint8_t key[32], iv[AEAD_NONCE_BYTES];
    if (stream != NULL && stream_set_keys(stream, false, key, iv)) {
        stream->read_sequence = 0;
        stream_go_on(scene->turn, stream, NULL, 0);
    }
    from_stream(scene, stream, APPLICATION_DATA, DATA, 60);
    turn_flush(scene->turn);
}

/* As many flows as make its tables grow. */
static void through_a_filter(scene *scene, uint8_t number) {
    tunnel *tunnel = engine_tunnel(scene->engine, number);
    for (uint8_t port = 1; port < 40 && tunnel != NULL; port++) {
        slice packet = {room, write_packet(room, number, 254, 60)};
        room[9] = 17;
        put16(room + 20, port);
        put16(room + 22, 53);
        tunnel_take_packets(scene->turn, tunnel, &packet, 1);
        turn_flush(scene->turn);
        from_device(scene, number, 60);
    }
}

static void set_up(scene *scene) {
    for (uint8_t number = 1; number <= TUNNELS; number++)
        scene_attach(scene, number);
    for (uint8_t number = 1; number <= FOREIGN; number++)
        scene_set_dtls(scene, number, number > NATIVE);
    scene_set_tls(scene, TLS13, true);
    scene_set_tls(scene, TLS12, false);
    scene_set_filter(scene, FILTERED);
    scene_set_filter(scene, FILTERED + 1); /* of the same policy */
}

static void move_packets(scene *scene) {
    for (uint8_t number = 1; number <= TUNNELS; number++) {
        from_device(scene, number, 100);
        from_device(scene, number, MTU + 100);
    }
    for (uint8_t number = 1; number <= FOREIGN; number++) {
        from_client(scene, number, 1, DATA, number);
        from_client(scene, number, 2, 200, number);
        from_client(scene, number, 3, DPD_REQUEST, number);
    }
    from_client(scene, 1, 4, DATA, 60); /* it has moved */
    scene->turn->now += 2;
    from_client(scene, 2, 4, DATA, 61);
    from_stranger(scene);
    peer_path path = scene_path(3);
    size_t size = sealed(scene, 3, 9, DATA);
    peers_receive_late(scene->turn, &path, room, size);
    turn_flush(scene->turn);
    over_a_stream(scene, TLS13);
    over_a_stream(scene, TLS12);
    through_a_filter(scene, FILTERED);
}

static void take_away(scene *scene) {
    scene_drain_events(scene);
    scene_set_dtls(scene, 4, true);
    scene_set_dtls(scene, 8, false);
    scene_set_tls(scene, TLS13, true);
    scene_attach(scene, 5);
    scene_attach(scene, FILTERED + 1);
    scene_set_filter(scene, FILTERED);
    engine_detach(scene->engine, 6);
    tunnel *tunnel = engine_tunnel(scene->engine, 7);
    if (tunnel != NULL)
        engine_set_dtls(scene->engine, tunnel, NULL);
    scene->turn->now += 2;
    move_packets(scene);
}

/* Whatever is missing, the reactor hears that a stream is lost. */
static void check_that_losses_are_told(scene *scene) {
    bool is_lost[2] = {false, false};
    for (uint8_t number = TLS13; number <= TLS12; number++) {
        tunnel *tunnel = engine_tunnel(scene->engine, number);
        if (tunnel != NULL && tunnel->tls != NULL && !tunnel->tls->is_lost) {
            stream_lose(scene->turn, tunnel->tls, INTERNAL_ERROR, "it is to be told");
            is_lost[number - TLS13] = true;
        }
    }
    memory_fails = false;
    event *first = events_take(&scene->engine->events);
    for (event *each = first; each != NULL; each = each->next)
        if (each->type == EVENT_LOST_STREAM)
            is_lost[each->tunnel - TLS13] = false;
    if (first != NULL)
        events_return(&scene->engine->events, first);
    if (is_lost[0] || is_lost[1])
        abort();
}

/* An engine that lacks something serves whoever comes next. */
static void check_that_it_goes_on(scene *scene) {
    scene_attach(scene, LATE);
    scene_set_dtls(scene, LATE, false);
    unsigned before = scene->bursts;
    from_device(scene, LATE, 100);
    if (scene->bursts != before + 1)
        abort();
}

static void run_packets(void) {
    scene scene;
    memory_fails = true;
    if (scene_open(&scene, 10)) {
        set_up(&scene);
        move_packets(&scene);
        take_away(&scene);
        check_that_losses_are_told(&scene);
        check_that_it_goes_on(&scene);
        scene_drain_events(&scene);
        scene_close(&scene);
    }
    memory_fails = false;
}

/* Threads start or do not; either way they end, and no descriptor is left. */
static void run_threads(void) {
    enum { QUEUES = 3 };
    int devices[QUEUES], kernels[QUEUES], before = dup(0);
    for (int at = 0; at < QUEUES; at++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) < 0)
            abort();
        devices[at] = pair[0];
        kernels[at] = pair[1];
    }
    engine *engine = engine_new(true, 0, false);
    memory_fails = true;
    loop *loop = loop_start(engine, devices, QUEUES);
    memory_fails = false;
    if (loop != NULL)
        loop_stop(loop);
    else if (errno != ENOMEM)
        abort();
    engine_free(engine);
    for (int at = 0; at < QUEUES; at++) {
        close(devices[at]);
        close(kernels[at]);
    }
    close(before);
    int after = dup(0);
    if (after != before)
        abort();
    close(after);
}

static void fail_each(const char *what, void (*run)(void)) {
    memory_left = 0;
    memory_fails_on = false;
    run(); /* libcrypto loads what it loads once */
    for (int round = 0; round < 2; round++) {
        long number = 0;
        do {
            memory_left = ++number;
            memory_fails_on = round;
            run();
        } while (memory_left == 0);
        printf("%s: %ld allocations failed, each %s\n", what, number - 1,
               memory_fails_on ? "with all that followed" : "alone");
    }
}

int main(void) {
    if (!CRYPTO_set_mem_functions(libcryptos_malloc, libcryptos_realloc, libcryptos_free))
        return 1;
    gcm_library(); /* is loaded once, with memory */
    for (int with_gcm = 0; with_gcm < 2; with_gcm++) {
        gcm_want(with_gcm);
        const char *library = gcm_library();
        printf("AES-GCM by %s\n", library == NULL ? "libcrypto" : library);
        fail_each("packets", run_packets);
        fail_each("threads", run_threads);
    }
    return 0;
}
