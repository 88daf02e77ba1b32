/* The engine as Python sees it: the class `Core`, used by compiled_engine.py and nobody else.
 *
 * A core is either driven by the reactor (`take_frames`, `take_datagrams`, then `written` and
 * `sent`), or by threads of its own (`start`). Either way its methods are called on the reactor's
 * thread, and what the reactor must hear of waits in `events`.
 *
 * A path is the tuple (socket, family, host, port, flow, scope, local), hosts as packed bytes.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <errno.h>
#include <stdlib.h>

#include "engine.h"

typedef struct {
    PyObject_HEAD
    engine *engine;
    loop *loop; /* NULL: the reactor drives it */
    turn *turn; /* of the reactor's */
    PyObject *written, *sent;
    bool has_failed; /* to keep what was written or sent */
} core;

/* --- values --------------------------------------------------------------------------------- */

static PyObject *path_value(const peer_path *path) {
    Py_ssize_t size = path->family == AF_INET ? 4 : 16;
    return Py_BuildValue("(iiy#iIIy#)", (int)path->socket, (int)path->family, path->host, size,
                         (int)path->port, path->flow, path->scope, path->local,
                         path->has_local ? size : (Py_ssize_t)0);
}

static bool read_path(PyObject *value, peer_path *path) {
    int socket, family, port;
    const char *host, *local;
    Py_ssize_t host_size, local_size;
    memset(path, 0, sizeof *path);
    if (!PyArg_ParseTuple(value, "iiy#iIIy#", &socket, &family, &host, &host_size, &port, &path->flow,
                          &path->scope, &local, &local_size))
        return false;
    Py_ssize_t size = family == AF_INET ? 4 : 16;
    if (host_size != size || (local_size && local_size != size) || socket < 0 || socket >= MOST_SOCKETS) {
        PyErr_SetString(PyExc_ValueError, "not a path");
        return false;
    }
    path->socket = (uint16_t)socket;
    path->family = (uint8_t)family;
    path->port = (uint16_t)port;
    path->has_local = local_size > 0;
    memcpy(path->host, host, (size_t)host_size);
    memcpy(path->local, local, (size_t)local_size);
    return true;
}

static bool read_bytes(PyObject *value, slice *slice) {
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(value, &bytes, &size) < 0)
        return false;
    slice->bytes = (const uint8_t *)bytes;
    slice->size = (size_t)size;
    return true;
}

/* --- turns of the reactor's ----------------------------------------------------------------- */

static void keep(core *self, PyObject *list, PyObject *made) {
    if (made == NULL || PyList_Append(list, made) < 0)
        self->has_failed = true;
    Py_XDECREF(made);
}

static void keep_bursts(turn *turn, burst *bursts, unsigned burst_count) {
    core *self = turn->host;
    for (unsigned number = 0; number < burst_count; number++) {
        const burst *burst = &bursts[number];
        counters *counters = &burst->channel->tunnel->counters;
        count(&counters->sent_packets, burst->packets);
        count(&counters->sent_bytes, burst->packet_bytes);
        PyObject *datagrams = PyList_New(0);
        for (size_t at = 0; datagrams != NULL && at < burst->size; at += burst->segment) {
            size_t size = burst->size - at < burst->segment ? burst->size - at : burst->segment;
            keep(self, datagrams, PyBytes_FromStringAndSize((char *)burst->data + at, (Py_ssize_t)size));
        }
        PyObject *path = path_value(&burst->path);
        if (datagrams == NULL || path == NULL)
            self->has_failed = true;
        else
            keep(self, self->sent, Py_BuildValue("(KOO)", burst->channel->tunnel->identifier, path, datagrams));
        Py_XDECREF(path);
        Py_XDECREF(datagrams);
    }
}

static void keep_pieces(turn *turn, merging *merging) {
    core *self = turn->host;
    for (int number = 0; number < merging->item_count; number++) {
        const item *item = &merging->items[number];
        uint8_t frame_header[16] = {0}, headers[MOST_HEADERS];
        size_t header = turn->engine->device_header, skipped = 0;
        if (header)
            skipped = merging_headers(merging, item, frame_header, header, headers);
        size_t size = header + skipped;
        for (int at = item->first; at >= 0; at = merging->pieces[at].next)
            size += merging->pieces[at].size - skipped;
        PyObject *frame = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
        if (frame != NULL) {
            uint8_t *to = (uint8_t *)PyBytes_AsString(frame);
            memcpy(to, frame_header, header);
            memcpy(to + header, headers, skipped);
            to += header + skipped;
            for (int at = item->first; at >= 0; at = merging->pieces[at].next) {
                const piece *piece = &merging->pieces[at];
                memcpy(to, piece->packet + skipped, piece->size - skipped);
                to += piece->size - skipped;
            }
        }
        keep(self, self->written, frame);
    }
}

/* Without threads there are no streams but Python's. */
static void keep_nothing(turn *turn, stream *stream) {
    (void)turn;
    (void)stream;
}

static const sinks lists = {keep_bursts, keep_pieces, keep_nothing};

static turn *begin_turn(core *self) {
    turn *turn = self->loop == NULL ? self->turn : loop_turn(self->loop);
    if (self->loop != NULL)
        turn->now = clock_now();
    return turn;
}

/* Begins to move packets; `finish` ends it. */
static turn *begin_moving(core *self) {
    pthread_rwlock_rdlock(&self->engine->tables);
    return begin_turn(self);
}

static PyObject *finish(core *self, turn *turn) {
    turn_flush(turn);
    pthread_rwlock_unlock(&self->engine->tables);
    if (self->has_failed) {
        self->has_failed = false;
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

/* --- tunnels -------------------------------------------------------------------------------- */

static bool read_network(PyObject *value, network *network) {
    const char *address;
    Py_ssize_t size;
    int prefix;
    if (!PyArg_ParseTuple(value, "y#i", &address, &size, &prefix))
        return false;
    if ((size != 4 && size != 16) || prefix < 0 || prefix > size * 8) {
        PyErr_SetString(PyExc_ValueError, "not a network");
        return false;
    }
    network->size = (uint8_t)size;
    network->prefix = (uint8_t)prefix;
    memcpy(network->address, address, (size_t)size);
    return true;
}

static PyObject *core_attach(core *self, PyObject *arguments) {
    unsigned long long identifier;
    PyObject *own;
    Py_ssize_t address_count, mtu, rules_size = 0;
    const char *rules = NULL;
    if (!PyArg_ParseTuple(arguments, "KO!nn|y#", &identifier, &PyList_Type, &own, &address_count, &mtu, &rules,
                          &rules_size))
        return NULL;
    Py_ssize_t own_count = PyList_Size(own);
    if (address_count < 0 || address_count > own_count || mtu < 0) {
        PyErr_SetString(PyExc_ValueError, "not so many addresses, or no MTU");
        return NULL;
    }
    network *networks = calloc((size_t)own_count + 1, sizeof *networks);
    if (networks == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t at = 0; at < own_count; at++) {
        if (!read_network(PyList_GetItem(own, at), &networks[at])) {
            free(networks);
            return NULL;
        }
    }
    tunnel *made = tunnel_new(identifier, (size_t)mtu, networks, (size_t)own_count, (size_t)address_count);
    free(networks);
    bool is_attached = false;
    if (made != NULL && rules_size) {
        made->filter = filter_new(&self->engine->rules, (const uint8_t *)rules, (size_t)rules_size);
        if (made->filter == NULL) {
            int error = errno;
            tunnel_free(made);
            if (error == EINVAL)
                PyErr_SetString(PyExc_ValueError, "not rules of a filter");
            return error == EINVAL ? NULL : PyErr_NoMemory();
        }
    }
    if (made != NULL) {
        pthread_rwlock_wrlock(&self->engine->tables);
        is_attached = engine_attach(self->engine, made);
        pthread_rwlock_unlock(&self->engine->tables);
    }
    if (!is_attached)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *core_detach(core *self, PyObject *arguments) {
    unsigned long long identifier;
    if (!PyArg_ParseTuple(arguments, "K", &identifier))
        return NULL;
    pthread_rwlock_wrlock(&self->engine->tables);
    engine_detach(self->engine, identifier);
    pthread_rwlock_unlock(&self->engine->tables);
    Py_RETURN_NONE;
}

/* After errno was 0: there is no memory for them, or libcrypto may not take them. */
static void refuse_keys(void) {
    if (errno == ENOMEM)
        PyErr_NoMemory();
    else
        PyErr_SetString(PyExc_RuntimeError, "libcrypto takes no such keys");
}

static channel *new_channel(PyObject *path, PyObject *keys) {
    channel *made = calloc(1, sizeof *made);
    if (made == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (!read_path(path, &made->path)) {
        free(made);
        return NULL;
    }
    made->is_foreign = keys == Py_None;
    if (made->is_foreign)
        return made;
    const char *version, *write_key, *write_iv, *read_key, *read_iv;
    Py_ssize_t version_size, write_size, write_iv_size, read_size, read_iv_size;
    int epoch;
    unsigned long long sequence;
    if (!PyArg_ParseTuple(keys, "y#iKy#y#y#y#", &version, &version_size, &epoch, &sequence, &write_key,
                          &write_size, &write_iv, &write_iv_size, &read_key, &read_size, &read_iv,
                          &read_iv_size)) {
        free(made);
        return NULL;
    }
    if (version_size != 2 || epoch < 0 || epoch > 65535 || sequence >> 48 || write_size != read_size ||
        (write_size != 16 && write_size != 32) || write_iv_size != 4 || read_iv_size != 4) {
        PyErr_SetString(PyExc_ValueError, "not the keys of AES-GCM");
        free(made);
        return NULL;
    }
    errno = 0;
    if (!records_init(&made->records, (const uint8_t *)version, (uint16_t)epoch, sequence,
                      write_size == 32 ? AES_256_GCM : AES_128_GCM, (const uint8_t *)write_key, (const uint8_t *)write_iv,
                      (const uint8_t *)read_key, (const uint8_t *)read_iv)) {
        refuse_keys();
        records_clear(&made->records);
        free(made);
        return NULL;
    }
    return made;
}

static PyObject *core_set_dtls(core *self, PyObject *arguments) {
    unsigned long long identifier;
    PyObject *path, *keys;
    if (!PyArg_ParseTuple(arguments, "KOO", &identifier, &path, &keys))
        return NULL;
    channel *made = NULL;
    if (path != Py_None && (made = new_channel(path, keys)) == NULL)
        return NULL;
    engine *engine = self->engine;
    bool is_set = true;
    pthread_rwlock_wrlock(&engine->tables);
    tunnel *tunnel = engine_tunnel(engine, identifier);
    turn *turn = begin_turn(self);
    if (tunnel != NULL) {
        is_set = engine_set_dtls(engine, tunnel, made);
        tunnel->times[DTLS].received_at = tunnel->times[DTLS].sent_at = turn->now;
    } else if (made != NULL) {
        if (!made->is_foreign)
            records_clear(&made->records);
        free(made);
    }
    pthread_rwlock_unlock(&engine->tables);
    return is_set ? (Py_INCREF(Py_None), Py_None) : PyErr_NoMemory();
}

static bool set_keys(stream *stream, bool seals, PyObject *keys) {
    const char *key, *iv;
    Py_ssize_t key_size, iv_size;
    if (!PyArg_ParseTuple(keys, "y#y#", &key, &key_size, &iv, &iv_size))
        return false;
    if ((size_t)key_size != cipher_key_bytes(stream->cipher) || iv_size != AEAD_NONCE_BYTES) {
        PyErr_SetString(PyExc_ValueError, "not keys of this cipher");
        return false;
    }
    errno = 0;
    if (!stream_set_keys(stream, seals, (const uint8_t *)key, (const uint8_t *)iv)) {
        refuse_keys();
        return false;
    }
    return true;
}

/* A stream that lacks its descriptor alone. */
static stream *new_stream(int is_tls13, int cipher, uint64_t write_sequence, uint64_t read_sequence,
                          PyObject *write_keys, PyObject *read_keys, const slice *begun) {
    stream *made = stream_new(is_tls13, (enum cipher)cipher, write_sequence, read_sequence);
    if (made == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (!set_keys(made, true, write_keys) || !set_keys(made, false, read_keys) ||
        !stream_begin_frame(made, begun->bytes, begun->size)) {
        stream_free(made);
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        return NULL;
    }
    return made;
}

/* The CSTP channel's records are the core's from now on, and so is the descriptor; when it raises,
 * neither is. Gives the number of the stream, which is the kind of events about it. */
static PyObject *core_set_tls(core *self, PyObject *arguments) {
    unsigned long long identifier, write_sequence, read_sequence;
    int descriptor, is_tls13, cipher;
    PyObject *write_keys, *read_keys;
    const char *begun, *more;
    Py_ssize_t begun_size, more_size;
    if (!PyArg_ParseTuple(arguments, "KipiKKOOy#y#", &identifier, &descriptor, &is_tls13, &cipher,
                          &write_sequence, &read_sequence, &write_keys, &read_keys, &begun, &begun_size,
                          &more, &more_size))
        return NULL;
    if (self->loop == NULL || descriptor < 0 || cipher < AES_128_GCM || cipher > CHACHA20_POLY1305) {
        PyErr_SetString(PyExc_ValueError, "it does not run, or has no such cipher");
        return NULL;
    }
    const slice beginning = {(const uint8_t *)begun, (size_t)begun_size};
    stream *made = new_stream(is_tls13, cipher, write_sequence, read_sequence, write_keys, read_keys, &beginning);
    if (made == NULL)
        return NULL;
    int number = 0;
    pthread_rwlock_wrlock(&self->engine->tables);
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    if (tunnel != NULL) {
        turn *turn = begin_turn(self);
        made->descriptor = descriptor; /* nothing can fail any more */
        engine_set_tls(self->engine, tunnel, made);
        number = made->number;
        tunnel->has_cstp = true;
        tunnel->times[CSTP].received_at = tunnel->times[CSTP].sent_at = turn->now;
        stream_go_on(turn, made, (const uint8_t *)more, (size_t)more_size);
        tunnel_send_waiting(turn, tunnel);
        turn_flush(turn);
        if (!made->waits_for_keys && !made->is_lost)
            loop_add_stream(turn, made);
    }
    pthread_rwlock_unlock(&self->engine->tables);
    if (tunnel == NULL) {
        stream_free(made);
        PyErr_SetString(PyExc_LookupError, "there is no such tunnel");
        return NULL;
    }
    return PyLong_FromLong(number);
}

/* Gives the stream up: its descriptor, which is the caller's from now on, and the bytes that are
 * not sent yet, an alert behind them. When it raises, the descriptor is the core's still. */
static PyObject *core_take_tls(core *self, PyObject *arguments) {
    unsigned long long identifier;
    unsigned char alert;
    if (!PyArg_ParseTuple(arguments, "Kb", &identifier, &alert))
        return NULL;
    PyObject *given = NULL;
    pthread_rwlock_wrlock(&self->engine->tables);
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    stream *stream = tunnel == NULL ? NULL : tunnel->tls;
    if (stream == NULL) {
        PyErr_SetString(PyExc_LookupError, "there is no such stream");
    } else {
        size_t unsent = stream->unsent.size;
        uint64_t sequence = stream->write_sequence;
        size_t size = stream_end(stream, (enum alert)alert);
        given = Py_BuildValue("(iy#)", stream->descriptor, size ? (char *)stream->unsent.bytes : "", (Py_ssize_t)size);
        if (given == NULL) { /* nobody has seen the last words: it goes on without them */
            stream->unsent.size = unsent;
            stream->write_sequence = sequence;
        }
    }
    if (given != NULL) {
        stream_release(stream);
        engine_set_tls(self->engine, tunnel, NULL);
        tunnel->has_cstp = false;
    }
    pthread_rwlock_unlock(&self->engine->tables);
    return given;
}

/* Tells the peer by the message, then seals under the new keys. A stream with half of that is lost,
 * or numbers would be used twice under one key. */
static bool set_write_keys(turn *turn, stream *stream, PyObject *keys, const char *message, size_t size) {
    uint8_t *at = stream_takes_message(stream) ? stream_reserve(stream, size) : NULL;
    if (at == NULL) {
        stream_lose(turn, stream, CLOSE_NOTIFY, "the peer asks for more answers than it reads");
        return true;
    }
    memcpy(at, message, size);
    if (!stream_commit(stream, TLS_HANDSHAKE, size) || !set_keys(stream, true, keys)) {
        stream_lose(turn, stream, NO_ALERT, "TLS failed: no new keys");
        return !PyErr_Occurred();
    }
    stream->write_sequence = 0;
    turn_send_stream(turn, stream);
    return true;
}

/* New keys for one direction; for writing, after the message that tells the peer so. For reading,
 * or with neither, it goes on with what it has kept. */
static PyObject *core_set_tls_keys(core *self, PyObject *arguments) {
    unsigned long long identifier;
    PyObject *write_keys, *read_keys;
    const char *message;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "KOOy#", &identifier, &write_keys, &read_keys, &message, &size))
        return NULL;
    bool is_set = true;
    pthread_rwlock_wrlock(&self->engine->tables);
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    stream *stream = tunnel == NULL || self->loop == NULL ? NULL : tunnel->tls;
    turn *turn = begin_turn(self);
    if (stream != NULL && write_keys != Py_None) {
        is_set = set_write_keys(turn, stream, write_keys, message, (size_t)size);
    }
    if (stream != NULL && is_set && read_keys != Py_None) {
        is_set = set_keys(stream, false, read_keys);
        stream->read_sequence = 0;
    }
    bool goes_on = read_keys != Py_None || write_keys == Py_None; /* ours alone: the peer's come yet */
    if (stream != NULL && is_set && stream->waits_for_keys && goes_on) {
        stream_go_on(turn, stream, NULL, 0);
        if (!stream->waits_for_keys && !stream->is_lost)
            loop_add_stream(turn, stream);
    }
    turn_flush(turn);
    pthread_rwlock_unlock(&self->engine->tables);
    return is_set ? (Py_INCREF(Py_None), Py_None) : PyErr_Occurred() ? NULL : PyErr_NoMemory();
}

static PyObject *core_set_cstp(core *self, PyObject *arguments) {
    unsigned long long identifier;
    int is_there, is_congested;
    if (!PyArg_ParseTuple(arguments, "Kpp", &identifier, &is_there, &is_congested))
        return NULL;
    pthread_rwlock_wrlock(&self->engine->tables);
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    if (tunnel != NULL) {
        tunnel->has_cstp = is_there;
        tunnel->is_congested = is_congested;
    }
    pthread_rwlock_unlock(&self->engine->tables);
    Py_RETURN_NONE;
}

static PyObject *core_send_waiting(core *self, PyObject *arguments) {
    unsigned long long identifier;
    if (!PyArg_ParseTuple(arguments, "K", &identifier))
        return NULL;
    turn *turn = begin_moving(self);
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    if (tunnel != NULL)
        tunnel_send_waiting(turn, tunnel);
    return finish(self, turn);
}

static PyObject *core_send_control(core *self, PyObject *arguments) {
    unsigned long long identifier;
    int name, kind;
    const char *payload;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "Kiiy#", &identifier, &name, &kind, &payload, &size))
        return NULL;
    turn *turn = begin_moving(self);
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    if (tunnel != NULL)
        tunnel_send_control(turn, tunnel, name == DTLS ? DTLS : CSTP, (uint8_t)kind, (const uint8_t *)payload, (size_t)size);
    return finish(self, turn);
}

/* --- packets -------------------------------------------------------------------------------- */

typedef void move_packet(turn *turn, tunnel *tunnel, const slice *packet);

static void to_client(turn *turn, tunnel *tunnel, const slice *packet) {
    segments one;
    segments_of_packet(&one, packet->bytes, packet->size);
    tunnel_send(turn, tunnel, &one);
}

static void from_client(turn *turn, tunnel *tunnel, const slice *packet) {
    tunnel_take_packets(turn, tunnel, packet, 1);
}

static void put_first(turn *turn, tunnel *tunnel, const slice *packet) {
    (void)turn;
    pthread_mutex_lock(&tunnel->lock);
    tunnel_wait(tunnel, packet->bytes, packet->size, true);
    pthread_mutex_unlock(&tunnel->lock);
}

/* Each of a list of packets; what is no bytes ends it. */
static PyObject *move_packets(core *self, unsigned long long identifier, PyObject *packets,
                              move_packet *move, bool backwards) {
    Py_ssize_t packet_count = PyList_Size(packets);
    turn *turn = begin_moving(self);
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    for (Py_ssize_t at = 0; at < packet_count && tunnel != NULL; at++) {
        slice packet;
        if (!read_bytes(PyList_GetItem(packets, backwards ? packet_count - 1 - at : at), &packet)) {
            self->has_failed = true;
            break;
        }
        move(turn, tunnel, &packet);
    }
    return finish(self, turn);
}

static PyObject *core_send_packets(core *self, PyObject *arguments) {
    unsigned long long identifier;
    PyObject *packets;
    if (!PyArg_ParseTuple(arguments, "KO!", &identifier, &PyList_Type, &packets))
        return NULL;
    return move_packets(self, identifier, packets, to_client, false);
}

static PyObject *core_put_back(core *self, PyObject *arguments) {
    unsigned long long identifier;
    PyObject *packets;
    if (!PyArg_ParseTuple(arguments, "KO!", &identifier, &PyList_Type, &packets))
        return NULL;
    return move_packets(self, identifier, packets, put_first, true);
}

static PyObject *core_take_packets(core *self, PyObject *arguments) {
    unsigned long long identifier;
    PyObject *packets;
    if (!PyArg_ParseTuple(arguments, "KO!", &identifier, &PyList_Type, &packets))
        return NULL;
    return move_packets(self, identifier, packets, from_client, false);
}

static PyObject *core_set_quiet(core *self, PyObject *arguments) {
    unsigned long long identifier;
    int is_quiet;
    if (!PyArg_ParseTuple(arguments, "Kp", &identifier, &is_quiet))
        return NULL;
    turn *turn = begin_moving(self);
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    if (tunnel != NULL) {
        pthread_mutex_lock(&tunnel->lock);
        tunnel->is_quiet = is_quiet && tunnel->dtls != NULL && self->engine->follows_client;
        pthread_mutex_unlock(&tunnel->lock);
        if (!is_quiet)
            tunnel_send_waiting(turn, tunnel);
    }
    return finish(self, turn);
}

/* Packets of ours to whoever is inside, clients or others. */
static PyObject *core_answer(core *self, PyObject *packets) {
    Py_ssize_t packet_count = PyList_Size(packets);
    if (packet_count < 0)
        return NULL;
    turn *turn = begin_moving(self);
    for (Py_ssize_t at = 0; at < packet_count; at++) {
        slice packet;
        size_t size = 0;
        if (!read_bytes(PyList_GetItem(packets, at), &packet)) {
            self->has_failed = true;
            break;
        }
        const uint8_t *destination = packet_destination(packet.bytes, packet.size, &size);
        tunnel *tunnel = destination == NULL ? NULL : routes_find(&self->engine->routes, destination, size);
        if (tunnel == NULL)
            turn_write(turn, NULL, packet.bytes, packet.size);
        else
            to_client(turn, tunnel, &packet);
    }
    return finish(self, turn);
}

static PyObject *core_take_frames(core *self, PyObject *frames) {
    Py_ssize_t frame_count = PyList_Size(frames);
    if (frame_count < 0)
        return NULL;
    uint8_t *copy = malloc(LONGEST_FRAME); /* frames are changed in place */
    if (copy == NULL)
        return PyErr_NoMemory();
    turn *turn = begin_moving(self);
    for (Py_ssize_t at = 0; at < frame_count; at++) {
        slice frame;
        if (!read_bytes(PyList_GetItem(frames, at), &frame)) {
            self->has_failed = true;
            break;
        }
        if (frame.size > LONGEST_FRAME)
            continue;
        memcpy(copy, frame.bytes, frame.size);
        engine_take_frame(turn, copy, frame.size);
    }
    PyObject *done = finish(self, turn);
    free(copy);
    return done;
}

static PyObject *core_take_datagrams(core *self, PyObject *arguments) {
    PyObject *path_argument, *datagrams;
    peer_path path;
    if (!PyArg_ParseTuple(arguments, "OO!", &path_argument, &PyList_Type, &datagrams) ||
        !read_path(path_argument, &path))
        return NULL;
    uint8_t *copy = malloc(LONGEST_FRAME); /* records are opened in place */
    if (copy == NULL)
        return PyErr_NoMemory();
    Py_ssize_t datagram_count = PyList_Size(datagrams);
    turn *turn = begin_moving(self);
    for (Py_ssize_t at = 0; at < datagram_count; at++) {
        slice datagram;
        if (!read_bytes(PyList_GetItem(datagrams, at), &datagram)) {
            self->has_failed = true;
            break;
        }
        if (!datagram.size || datagram.size > LONGEST_PACKET)
            continue;
        memcpy(copy, datagram.bytes, datagram.size);
        peers_receive(turn, &path, copy, datagram.size, datagram.size);
        turn_flush(turn);
    }
    PyObject *done = finish(self, turn);
    free(copy);
    return done;
}

/* What was handed up as nobody's, when its channel may have come meanwhile; gives whether it had. */
static PyObject *core_take_late(core *self, PyObject *arguments) {
    PyObject *path_argument;
    peer_path path;
    const char *datagram;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "Oy#", &path_argument, &datagram, &size) ||
        !read_path(path_argument, &path))
        return NULL;
    uint8_t *copy = malloc((size_t)size + 1); /* records are opened in place */
    if (copy == NULL)
        return PyErr_NoMemory();
    memcpy(copy, datagram, (size_t)size);
    turn *turn = begin_moving(self);
    bool is_taken = peers_receive_late(turn, &path, copy, (size_t)size);
    PyObject *done = finish(self, turn);
    free(copy);
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    return PyBool_FromLong(is_taken);
}

static PyObject *core_take_waiting(core *self, PyObject *arguments) {
    unsigned long long identifier;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(arguments, "Kn", &identifier, &limit))
        return NULL;
    PyObject *packets = PyList_New(0);
    if (packets == NULL)
        return NULL;
    packet_node *first = NULL, **last = &first;
    bool by_dtls = false;
    pthread_rwlock_rdlock(&self->engine->tables);
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    if (tunnel != NULL) {
        pthread_mutex_lock(&tunnel->lock);
        tunnel->asked_reactor = false;
        if (tunnel_needs_reactor(tunnel, &by_dtls)) {
            for (; limit > 0 && tunnel->waiting != NULL; limit--) {
                *last = tunnel->waiting;
                tunnel->waiting = (*last)->next;
                tunnel->waiting_count--;
                last = &(*last)->next;
            }
            *last = NULL;
        }
        pthread_mutex_unlock(&tunnel->lock);
    }
    pthread_rwlock_unlock(&self->engine->tables);
    while (first != NULL) {
        packet_node *node = first;
        first = node->next;
        keep(self, packets, PyBytes_FromStringAndSize((char *)node->bytes, (Py_ssize_t)node->size));
        free(node);
    }
    if (self->has_failed) {
        self->has_failed = false;
        Py_DECREF(packets);
        return NULL;
    }
    return Py_BuildValue("(iN)", by_dtls ? DTLS : CSTP, packets);
}

/* --- what it says of itself ----------------------------------------------------------------- */

static PyObject *core_count(core *self, PyObject *arguments) {
    unsigned long long identifier;
    long long sent_packets, sent_bytes, queue_full, unroutable, malformed;
    if (!PyArg_ParseTuple(arguments, "KLLLLL", &identifier, &sent_packets, &sent_bytes, &queue_full,
                          &unroutable, &malformed))
        return NULL;
    pthread_rwlock_rdlock(&self->engine->tables);
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    if (tunnel != NULL) {
        count(&tunnel->counters.sent_packets, (uint64_t)sent_packets);
        count(&tunnel->counters.sent_bytes, (uint64_t)sent_bytes);
        count(&tunnel->counters.queue_full, (uint64_t)queue_full);
        count(&tunnel->counters.unroutable, (uint64_t)unroutable);
        count(&tunnel->counters.malformed, (uint64_t)malformed);
    }
    pthread_rwlock_unlock(&self->engine->tables);
    Py_RETURN_NONE;
}

static PyObject *core_counters(core *self, PyObject *arguments) {
    unsigned long long identifier;
    if (!PyArg_ParseTuple(arguments, "K", &identifier))
        return NULL;
    /* Only the reactor's thread, which this is, takes tunnels away: no lock, nobody is stopped */
    const tunnel *tunnel = engine_tunnel(self->engine, identifier);
    if (tunnel == NULL)
        Py_RETURN_NONE;
    const counters *counters = &tunnel->counters;
    return Py_BuildValue("(KKKKKKKKKd)", counted(&counters->received_packets),
                         counted(&counters->received_bytes), counted(&counters->sent_packets),
                         counted(&counters->sent_bytes), counted(&counters->spoofed),
                         counted(&counters->malformed), counted(&counters->queue_full),
                         counted(&counters->unroutable), counted(&counters->filtered),
                         get_time(&counters->data_at));
}

static PyObject *core_times(core *self, PyObject *arguments) {
    unsigned long long identifier;
    int name;
    if (!PyArg_ParseTuple(arguments, "Ki", &identifier, &name))
        return NULL;
    tunnel *tunnel = engine_tunnel(self->engine, identifier);
    if (tunnel == NULL || (name == DTLS ? tunnel->dtls == NULL : tunnel->tls == NULL))
        Py_RETURN_NONE;
    pthread_mutex_lock(&tunnel->lock);
    channel_times times = tunnel->times[name == DTLS ? DTLS : CSTP];
    pthread_mutex_unlock(&tunnel->lock);
    return Py_BuildValue("(dddd)", times.received_at, times.sent_at, times.probed_at, times.round_trip);
}

static PyObject *event_value(const event *event) {
    PyObject *path = event->path.family ? path_value(&event->path) : (Py_INCREF(Py_None), Py_None);
    if (path == NULL)
        return NULL;
    return Py_BuildValue("(iKiiNy#)", (int)event->type, event->tunnel, (int)event->name, (int)event->kind, path,
                         event->bytes, (Py_ssize_t)event->size);
}

/* Where there is no memory for all of them, the others are told the next time. */
static PyObject *core_events(core *self, PyObject *nothing) {
    (void)nothing;
    PyObject *told = PyList_New(0);
    if (told == NULL)
        return NULL;
    event *first = events_take(&self->engine->events);
    while (first != NULL) {
        PyObject *made = event_value(first);
        bool is_told = made != NULL && PyList_Append(told, made) == 0;
        Py_XDECREF(made);
        if (!is_told)
            break;
        event *done = first;
        first = first->next;
        free(done);
    }
    if (first != NULL) {
        events_return(&self->engine->events, first);
        if (!PyList_Size(told)) {
            Py_DECREF(told);
            return NULL;
        }
        PyErr_Clear();
    }
    return told;
}

static PyObject *taken(PyObject **list) {
    PyObject *fresh = PyList_New(0), *full = *list;
    if (fresh == NULL)
        return NULL;
    *list = fresh;
    return full;
}

static PyObject *core_written(core *self, PyObject *nothing) {
    (void)nothing;
    return taken(&self->written);
}

static PyObject *core_sent(core *self, PyObject *nothing) {
    (void)nothing;
    return taken(&self->sent);
}

static PyObject *core_totals(core *self, PyObject *nothing) {
    (void)nothing;
    int threads = self->loop == NULL ? 0 : loop_count(self->loop);
    return Py_BuildValue("(KKi)", counted(&self->engine->unroutable),
                         counted(&self->engine->events.dropped), threads);
}

static PyObject *core_set_time(core *self, PyObject *argument) {
    double now = PyFloat_AsDouble(argument);
    if (now == -1.0 && PyErr_Occurred())
        return NULL;
    self->turn->now = now;
    Py_RETURN_NONE;
}

static PyObject *core_now(core *self, PyObject *nothing) {
    (void)nothing;
    return PyFloat_FromDouble(self->loop == NULL ? self->turn->now : clock_now());
}

/* --- threads -------------------------------------------------------------------------------- */

static PyObject *core_start(core *self, PyObject *arguments) {
    PyObject *devices;
    int wake, descriptors[MOST_QUEUES];
    if (!PyArg_ParseTuple(arguments, "O!i", &PyList_Type, &devices, &wake))
        return NULL;
    Py_ssize_t device_count = PyList_Size(devices);
    if (self->loop != NULL || device_count < 1 || device_count > MOST_QUEUES) {
        PyErr_SetString(PyExc_ValueError, "it runs already, or has no device");
        return NULL;
    }
    for (Py_ssize_t at = 0; at < device_count; at++) {
        descriptors[at] = (int)PyLong_AsLong(PyList_GetItem(devices, at));
        if (descriptors[at] == -1 && PyErr_Occurred())
            return NULL;
    }
    self->engine->events.wake = wake;
    self->loop = loop_start(self->engine, descriptors, (int)device_count);
    if (self->loop == NULL)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static void stop(core *self) {
    loop *loop = self->loop;
    self->loop = NULL;
    if (loop == NULL)
        return;
    Py_BEGIN_ALLOW_THREADS
    loop_stop(loop);
    Py_END_ALLOW_THREADS
    self->engine->events.wake = -1;
}

static PyObject *core_stop(core *self, PyObject *nothing) {
    (void)nothing;
    stop(self);
    Py_RETURN_NONE;
}

static PyObject *core_add_socket(core *self, PyObject *arguments) {
    int worker, index, descriptor;
    if (!PyArg_ParseTuple(arguments, "iii", &worker, &index, &descriptor))
        return NULL;
    if (self->loop == NULL || index < 0 || index >= MOST_SOCKETS || worker < 0 ||
        worker >= loop_count(self->loop)) {
        PyErr_SetString(PyExc_ValueError, "it does not run, or that is one socket too many");
        return NULL;
    }
    pthread_rwlock_wrlock(&self->engine->tables);
    int error = loop_add_socket(self->loop, (unsigned)worker, (unsigned)index, descriptor);
    pthread_rwlock_unlock(&self->engine->tables);
    if (error) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *core_remove_socket(core *self, PyObject *arguments) {
    int index;
    if (!PyArg_ParseTuple(arguments, "i", &index))
        return NULL;
    if (self->loop != NULL && index >= 0 && index < MOST_SOCKETS) {
        pthread_rwlock_wrlock(&self->engine->tables);
        loop_remove_socket(self->loop, (unsigned)index);
        pthread_rwlock_unlock(&self->engine->tables);
    }
    Py_RETURN_NONE;
}

/* --- the class ------------------------------------------------------------------------------ */

static PyObject *core_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    int follows_client, takes_datagrams = 0;
    Py_ssize_t device_header;
    static char *names[] = {"follows_client", "device_header", "takes_datagrams", NULL};
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "pn|p", names, &follows_client, &device_header,
                                     &takes_datagrams))
        return NULL;
    if (device_header != 0 && device_header != 10 && device_header != 12) {
        PyErr_SetString(PyExc_ValueError, "a device's header has 0, 10 or 12 bytes");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    core *self = (core *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    self->engine = engine_new(follows_client, (size_t)device_header, takes_datagrams);
    if (self->engine != NULL)
        self->turn = turn_new(self->engine, &lists, self);
    self->written = PyList_New(0);
    self->sent = PyList_New(0);
    if (self->turn == NULL || self->written == NULL || self->sent == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void core_dealloc(core *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    stop(self);
    if (self->turn != NULL)
        turn_free(self->turn);
    if (self->engine != NULL)
        engine_free(self->engine);
    Py_XDECREF(self->written);
    Py_XDECREF(self->sent);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

#define METHOD(name, how, text) {#name, (PyCFunction)(void (*)(void))core_##name, how, text}

static PyMethodDef methods[] = {
    METHOD(attach, METH_VARARGS, "attach(tunnel, [(address, prefix)], how many are addresses, mtu, rules or nothing)"),
    METHOD(detach, METH_VARARGS, "detach(tunnel)"),
    METHOD(set_dtls, METH_VARARGS, "set_dtls(tunnel, path or None, keys or None for Python's own)"),
    METHOD(set_cstp, METH_VARARGS, "set_cstp(tunnel, is there, is congested)"),
    METHOD(set_tls, METH_VARARGS,
           "set_tls(tunnel, descriptor, which it has from then on, is TLS 1.3, cipher, write sequence, read "
           "sequence, write keys, read keys, begun frame, unread) -> the stream's number, which is the kind of "
           "events about it"),
    METHOD(set_tls_keys, METH_VARARGS, "set_tls_keys(tunnel, write keys, read keys, message)"),
    METHOD(take_tls, METH_VARARGS, "take_tls(tunnel, alert unless it is lost) -> the descriptor, bytes to be sent"),
    METHOD(set_quiet, METH_VARARGS, "set_quiet(tunnel, is quiet)"),
    METHOD(send_waiting, METH_VARARGS, "send_waiting(tunnel)"),
    METHOD(send_control, METH_VARARGS, "send_control(tunnel, channel, kind, payload)"),
    METHOD(send_packets, METH_VARARGS, "send_packets(tunnel, packets), to its client"),
    METHOD(take_packets, METH_VARARGS, "take_packets(tunnel, packets), of its client"),
    METHOD(take_waiting, METH_VARARGS, "take_waiting(tunnel, limit) -> channel, packets"),
    METHOD(put_back, METH_VARARGS, "put_back(tunnel, packets)"),
    METHOD(answer, METH_O, "answer(packets), to whoever is inside"),
    METHOD(take_frames, METH_O, "take_frames(frames), of the device"),
    METHOD(take_datagrams, METH_VARARGS, "take_datagrams(path, datagrams)"),
    METHOD(take_late, METH_VARARGS, "take_late(path, datagram) -> whether it has a channel by now"),
    METHOD(written, METH_NOARGS, "written() -> frames for the device"),
    METHOD(sent, METH_NOARGS, "sent() -> [(tunnel, path, datagrams)]"),
    METHOD(count, METH_VARARGS, "count(tunnel, sent packets, bytes, queue full, unroutable, malformed)"),
    METHOD(counters, METH_VARARGS, "counters(tunnel) -> counters or None"),
    METHOD(times, METH_VARARGS, "times(tunnel, channel) -> received, sent, probed, round trip, or None"),
    METHOD(events, METH_NOARGS, "events() -> [(type, tunnel, channel, kind, path, bytes)]"),
    METHOD(totals, METH_NOARGS, "totals() -> packets for nobody, events that had no room, threads"),
    METHOD(set_time, METH_O, "set_time(seconds), where the reactor drives it"),
    METHOD(now, METH_NOARGS, "now() -> seconds on its clock"),
    METHOD(start, METH_VARARGS, "start([descriptor of the device], eventfd)"),
    METHOD(stop, METH_NOARGS, "stop()"),
    METHOD(add_socket, METH_VARARGS, "add_socket(thread, index, descriptor)"),
    METHOD(remove_socket, METH_VARARGS, "remove_socket(index)"),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A packet engine without Python inside; see compiled_engine.py."},
    {Py_tp_new, core_new},
    {Py_tp_dealloc, core_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "anyvpn.packets._compiled.Core",
    .basicsize = sizeof(core),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static int fill(PyObject *module) {
    PyObject *type = PyType_FromSpec(&spec);
    if (type == NULL || PyModule_AddObjectRef(module, "Core", type) < 0) {
        Py_XDECREF(type);
        return -1;
    }
    Py_DECREF(type);
    static const struct {
        const char *name;
        int value;
    } constants[] = {
        {"CONTROL", EVENT_CONTROL},         {"MOVED", EVENT_MOVED},
        {"DATAGRAM", EVENT_DATAGRAM},       {"FOREIGN", EVENT_FOREIGN},
        {"TOO_LONG", EVENT_TOO_LONG},       {"WAITING", EVENT_WAITING},
        {"SPENT", EVENT_SPENT},             {"LOST_DEVICE", EVENT_LOST_DEVICE},
        {"LOST_SOCKET", EVENT_LOST_SOCKET}, {"LOST_STREAM", EVENT_LOST_STREAM},
        {"HANDSHAKE", EVENT_HANDSHAKE},     {"OLD_KEYS", EVENT_OLD_KEYS},
        {"MOST_SOCKETS", MOST_SOCKETS},     {"MOST_QUEUES", MOST_QUEUES},
    };
    for (size_t at = 0; at < sizeof constants / sizeof *constants; at++)
        if (PyModule_AddIntConstant(module, constants[at].name, constants[at].value) < 0)
            return -1;
    const char *library = gcm_library();
    return PyModule_AddStringConstant(module, "GCM_LIBRARY", library == NULL ? "libcrypto" : library);
}

static PyObject *want_gcm_library(PyObject *module, PyObject *wanted) {
    (void)module;
    int is_wanted = PyObject_IsTrue(wanted);
    if (is_wanted < 0)
        return NULL;
    gcm_want(is_wanted);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"want_gcm_library", want_gcm_library, METH_O,
     "want_gcm_library(wanted)\n--\n\nFor tests: keys that come from now on are libcrypto's, or not."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, fill},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "anyvpn.packets._compiled",
    .m_doc = "The compiled packet engine.",
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__compiled(void) {
    return PyModuleDef_Init(&definition);
}
