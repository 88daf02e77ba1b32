/* What the control plane says, between packets from all sides: channels and tunnels come and go. */

#include "scene.h"

enum { ACTIONS = 18 };

static uint8_t room[LONGEST_FRAME];

/* What a client has sent, with its length as long as a byte can say, or as a frame. */
static input packet_of(input *input, uint8_t number, bool is_framed) {
    static uint8_t made[4096];
    struct input some = take_some(input, take_byte(input));
    size_t at = is_framed ? FRAME_HEADER_BYTES : 1;
    size_t size = some.size < 20 ? 20 : some.size;
    memset(made, 0, at + size);
    if (some.size)
        memcpy(made + at, some.data, some.size);
    if (made[at] & 1) { /* half of them are packets that it may send */
        uint8_t addresses[8] = {10, 9, 0, number, 10, 9, 0, (uint8_t)(made[at + 1] % (CLIENTS + 2))};
        made[at] = 0x45;
        memcpy(made + at + 12, addresses, sizeof addresses);
    }
    if (is_framed)
        stream_frame(made, some.size & 7 ? 0 : made[at + 2], size);
    return (struct input){made, at + size};
}

static void come_by_tls(scene *scene, tunnel *tunnel, input *input, uint8_t how) {
    stream *tls = tunnel->tls;
    if (tls == NULL || tls->is_lost)
        return;
    struct input packet = packet_of(input, (uint8_t)tunnel->identifier, true);
    size_t half = packet.size / 2;
    struct input rest = {packet.data + half, how & 16 ? packet.size - half : 0};
    if (how & 1 && packet.size > 3)
        packet.size = packet.size / 2; /* the rest comes next or never, or another frame is in its place */
    uint8_t type = how & 2 ? take_byte(input) : APPLICATION_DATA;
    size_t size = scene_tls_record(tls, type, room, &packet);
    if (how & 1 && rest.size) {
        tls->read_sequence++;
        size += scene_tls_record(tls, type, room + size, &rest);
        tls->read_sequence--;
    }
    size_t cut = how & 4 ? take_byte(input) % size : size;
    if (how & 8)
        room[take_byte(input) % size] ^= 1;
    uint8_t *part = malloc(size); /* so that one byte too many is seen */
    memcpy(part, room, size);
    if (!tls->waits_for_keys)
        stream_go_on(scene->turn, tls, part, cut);
    if (!tls->waits_for_keys && !tls->is_lost)
        stream_go_on(scene->turn, tls, part + cut, size - cut);
    free(part);
}

static void come_by_dtls(scene *scene, tunnel *tunnel, input *input, uint8_t how) {
    uint8_t number = (uint8_t)tunnel->identifier;
    struct input packet = packet_of(input, number, false);
    packet.size -= how & 1;
    scene->turn->now += 0.01;
    size_t size = scene_record(scene, number, (uint64_t)(scene->turn->now * 100), room, &packet);
    peer_path path = scene_path(how & 2 ? take_byte(input) % 16 : number);
    peers_receive(scene->turn, &path, room, size, size);
}

static void change_keys(scene *scene, tunnel *tunnel, bool writes) {
    static const uint8_t key[32], iv[AEAD_NONCE_BYTES];
    stream *tls = tunnel->tls;
    if (tls == NULL || !stream_set_keys(tls, writes, key, iv))
        return;
    if (writes)
        tls->write_sequence = 0;
    else
        tls->read_sequence = 0;
    if (tls->waits_for_keys)
        stream_go_on(scene->turn, tls, NULL, 0);
}

/* As when a stream goes back to Python, with its last words. */
static void give_back(scene *scene, tunnel *tunnel) {
    if (tunnel->tls == NULL)
        return;
    stream_end(tunnel->tls, CLOSE_NOTIFY);
    if (stream_release(tunnel->tls) >= 0)
        abort(); /* there are no descriptors here */
    engine_set_tls(scene->engine, tunnel, NULL);
    tunnel->has_cstp = false;
}

/* A record that was handed up as nobody's, and comes back. */
static void come_late(scene *scene, tunnel *tunnel, input *input) {
    uint8_t number = (uint8_t)tunnel->identifier;
    struct input packet = packet_of(input, number, false);
    scene->turn->now += 0.01;
    size_t size = scene_record(scene, number, (uint64_t)(scene->turn->now * 100), room, &packet);
    peer_path path = scene_path(number);
    uint8_t *part = malloc(size); /* so that one byte too many is seen */
    memcpy(part, room, size);
    peers_receive_late(scene->turn, &path, part, size - (take_byte(input) & 1));
    turn_flush(scene->turn);
    free(part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input input = {data, size};
    scene scene;
    scene_open(&scene, 10);
    while (input.size) {
        uint8_t what = take_byte(&input), how = take_byte(&input);
        uint8_t number = 1 + (how >> 5) % CLIENTS;
        tunnel *tunnel = engine_tunnel(scene.engine, number);
        if (tunnel == NULL && what % ACTIONS)
            continue;
        struct input packet;
        slice slice;
        segments one;
        switch (what % ACTIONS) {
        case 0:
            scene_attach(&scene, number);
            if (how & 1)
                scene_set_filter(&scene, number);
            break;
        case 1:
            engine_detach(scene.engine, number);
            break;
        case 2:
            scene_set_dtls(&scene, number, how & 1);
            break;
        case 3:
            engine_set_dtls(scene.engine, tunnel, NULL);
            break;
        case 4:
            scene_set_tls(&scene, number, how & 1);
            break;
        case 5:
            engine_set_tls(scene.engine, tunnel, NULL);
            tunnel->has_cstp = how & 1;
            break;
        case 6:
            tunnel->has_cstp = how & 1;
            tunnel->is_congested = how & 2;
            break;
        case 7:
            packet = packet_of(&input, number, false);
            tunnel_send_control(scene.turn, tunnel, how & 1 ? DTLS : CSTP, how >> 1, packet.data, packet.size);
            break;
        case 8:
            tunnel_send_waiting(scene.turn, tunnel);
            break;
        case 9:
            change_keys(&scene, tunnel, how & 1);
            break;
        case 10:
            scene.takes = how;
            break;
        case 11:
            come_by_tls(&scene, tunnel, &input, how);
            break;
        case 12:
            come_by_dtls(&scene, tunnel, &input, how);
            break;
        case 13: /* to it, many times */
            packet = packet_of(&input, number, false);
            for (int times = how & 1 ? 1 : 200; times > 0; times--) {
                segments_of_packet(&one, packet.data + 1, packet.size - 1);
                (how & 2 ? tunnel_forward : tunnel_send)(scene.turn, tunnel, &one);
            }
            break;
        case 14:
            packet = packet_of(&input, number, false);
            slice.bytes = packet.data + 1;
            slice.size = packet.size - 1;
            tunnel_take_packets(scene.turn, tunnel, &slice, 1);
            break;
        case 15:
            scene_drain_events(&scene);
            tunnel->asked_reactor = false;
            break;
        case 16:
            give_back(&scene, tunnel);
            break;
        case 17:
            come_late(&scene, tunnel, &input);
            break;
        }
        turn_flush(scene.turn);
    }
    scene_drain_events(&scene);
    scene_close(&scene);
    return 0;
}
