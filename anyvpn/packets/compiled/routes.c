/* Inner addresses and networks, each with its tunnel; the longest prefix wins.
 *
 * Whoever comes later gets the address: a session that comes back does so before its old tunnel
 * is gone, and the old one's removal takes nothing from the new one.
 */

#include "engine.h"

enum { IPV4_BYTES = 20, IPV6_BYTES = 40 };

static table_key key_of(const uint8_t *address, size_t size, unsigned prefix) {
    table_key key = {{0}};
    size_t whole = prefix / 8;
    memcpy(key.bytes, address, whole);
    if (prefix % 8)
        key.bytes[whole] = (uint8_t)(address[whole] & (0xFF00 >> (prefix % 8)));
    key.bytes[16] = (uint8_t)size;
    key.bytes[17] = (uint8_t)prefix;
    return key;
}

bool routes_init(routes *routes) {
    memset(routes, 0, sizeof *routes);
    routes->addresses = table_new();
    routes->networks = table_new();
    return routes->addresses != NULL && routes->networks != NULL;
}

void routes_clear(routes *routes) {
    table_free(routes->addresses);
    table_free(routes->networks);
}

static bool is_address(const network *network) {
    return network->prefix == network->size * 8;
}

bool routes_add(routes *routes, const network *network, tunnel *tunnel) {
    table_key key = key_of(network->address, network->size, network->prefix);
    if (is_address(network))
        return table_put(routes->addresses, &key, tunnel);
    bool is_new = table_find(routes->networks, &key) == NULL;
    if (!table_put(routes->networks, &key, tunnel))
        return false;
    routes->prefixes[network->size == 16][network->prefix] += is_new;
    return true;
}

void routes_remove(routes *routes, const network *network, const tunnel *tunnel) {
    table_key key = key_of(network->address, network->size, network->prefix);
    table *table = is_address(network) ? routes->addresses : routes->networks;
    if (table_find(table, &key) != tunnel)
        return;
    table_remove(table, &key);
    if (!is_address(network))
        routes->prefixes[network->size == 16][network->prefix]--;
}

tunnel *routes_find(const routes *routes, const uint8_t *address, size_t size) {
    table_key key = key_of(address, size, (unsigned)size * 8);
    tunnel *found = table_find(routes->addresses, &key);
    if (found != NULL || !table_count(routes->networks))
        return found;
    const uint32_t *prefixes = routes->prefixes[size == 16];
    for (int prefix = (int)size * 8 - 1; prefix >= 0 && found == NULL; prefix--) {
        if (prefixes[prefix]) {
            key = key_of(address, size, (unsigned)prefix);
            found = table_find(routes->networks, &key);
        }
    }
    return found;
}

bool network_holds(const network *network, const uint8_t *address, size_t size) {
    size_t whole = network->prefix / 8;
    if (size != network->size || memcmp(network->address, address, whole) != 0)
        return false;
    unsigned mask = 0xFF00u >> (network->prefix % 8) & 0xFF;
    return !mask || ((network->address[whole] ^ address[whole]) & mask) == 0;
}

static const uint8_t *address_in(const uint8_t *packet, size_t size, size_t *address_bytes, size_t at_ipv4,
                                 size_t at_ipv6) {
    unsigned version = size ? packet[0] >> 4 : 0;
    if (version == 4 && size >= IPV4_BYTES) {
        *address_bytes = 4;
        return packet + at_ipv4;
    }
    if (version == 6 && size >= IPV6_BYTES) {
        *address_bytes = 16;
        return packet + at_ipv6;
    }
    return NULL;
}

const uint8_t *packet_destination(const uint8_t *packet, size_t size, size_t *address_bytes) {
    return address_in(packet, size, address_bytes, 16, 24);
}

const uint8_t *packet_source(const uint8_t *packet, size_t size, size_t *address_bytes) {
    return address_in(packet, size, address_bytes, 12, 8);
}
