/* A kernel without offloads: preloaded, it refuses what such a one refuses.
 *
 * Super-packets of tun devices (TUNSETOFFLOAD: EINVAL), bursts of datagrams in one piece
 * (UDP_GRO: ENOPROTOOPT, UDP_SEGMENT: EIO, which is the answer when the device below has no
 * checksum offload). Source: Linux, drivers/net/tun.c, net/ipv4/udp.c.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int refuse(int error) {
    errno = error;
    return -1;
}

static bool is_burst(const struct msghdr *message) {
    struct msghdr *header = (struct msghdr *)message;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(header); each; each = CMSG_NXTHDR(header, each)) {
        if (each->cmsg_level == IPPROTO_UDP && each->cmsg_type == UDP_SEGMENT) {
            return true;
        }
    }
    return false;
}

int ioctl(int descriptor, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    unsigned long value = va_arg(arguments, unsigned long);
    va_end(arguments);
    if (request == TUNSETOFFLOAD && value) {
        return refuse(EINVAL);
    }
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(descriptor, request, value);
}

int setsockopt(int descriptor, int level, int name, const void *value, socklen_t size) {
    if (level == IPPROTO_UDP && (name == UDP_GRO || name == UDP_SEGMENT)) {
        return refuse(ENOPROTOOPT);
    }
    int (*real)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");
    return real(descriptor, level, name, value, size);
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags) {
    if (is_burst(message)) {
        return refuse(EIO);
    }
    ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
    return real(descriptor, message, flags);
}

int sendmmsg(int descriptor, struct mmsghdr *messages, unsigned int count, int flags) {
    unsigned int plain = 0;
    while (plain < count && !is_burst(&messages[plain].msg_hdr)) {
        plain++;
    }
    if (count && !plain) {
        return refuse(EIO);
    }
    int (*real)(int, struct mmsghdr *, unsigned int, int) = dlsym(RTLD_NEXT, "sendmmsg");
    return real(descriptor, messages, plain, flags);
}
