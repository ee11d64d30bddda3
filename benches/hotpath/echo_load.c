/* A load for echo servers: every connection sends a message, waits for it to come back, compares every byte, and sends
 * the next. Reports like wrk.
 *
 *     echo_load -p port [-c connections] [-s bytes of a message] [-d seconds] */
#define _GNU_SOURCE
#include "server.h"

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>

enum { SLOWEST_US = 2000000 };

struct connection {
    int fd;
    size_t begin, sent, received; /* where the message starts in `bytes`, and how far it got */
    uint64_t started_us;
};

static size_t size = 16384;
static char *bytes; /* messages are pieces of it, so that none equals the one before */
static size_t starts;
static uint32_t *histogram; /* messages by microseconds */
static uint64_t messages;

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void send_some(struct connection *conn)
{
    while (conn->sent < size) {
        ssize_t sent = send(conn->fd, bytes + conn->begin + conn->sent, size - conn->sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent < 0)
            die("send", errno);
        conn->sent += (size_t)sent;
    }
}

static void next_message(struct connection *conn)
{
    conn->begin = (conn->begin + 4099) % starts;
    conn->sent = conn->received = 0;
    conn->started_us = now_us();
    send_some(conn);
}

static void receive_some(struct connection *conn)
{
    static char got[65536];
    while (conn->received < size) {
        size_t want = size - conn->received < sizeof got ? size - conn->received : sizeof got;
        ssize_t received = recv(conn->fd, got, want, 0);
        if (received < 0 && errno == EAGAIN)
            return;
        if (received <= 0)
            die("the server ended a connection", received ? errno : ECONNRESET);
        if (memcmp(got, bytes + conn->begin + conn->received, (size_t)received) != 0)
            die("what came back is not what was sent", EBADMSG);
        conn->received += (size_t)received;
    }
    uint64_t took = now_us() - conn->started_us;
    histogram[took < SLOWEST_US ? took : SLOWEST_US - 1]++;
    messages++;
    next_message(conn);
}

static void start(struct connection *conn, int port, int epoll_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = conn};
    int on = 1;
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        ioctl(conn->fd, FIONBIO, &on) < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) < 0)
        die("cannot connect", errno);
}

static unsigned percentile(double percent)
{
    uint64_t below = 0, wanted = (uint64_t)((double)messages * percent / 100);
    unsigned us = 0;
    while (us < SLOWEST_US - 1 && (below += histogram[us]) <= wanted)
        us++;
    return us;
}

int main(int argc, char **argv)
{
    int port = 0, count = 100, seconds = 2, option;
    while ((option = getopt(argc, argv, "p:c:s:d:")) != -1) {
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'c': count = atoi(optarg); break;
        case 's': size = (size_t)atol(optarg); break;
        case 'd': seconds = atoi(optarg); break;
        default: fputs("usage: echo_load -p port [-c connections] [-s bytes] [-d seconds]\n", stderr); return 2;
        }
    }
    starts = 4 * size;
    bytes = malloc(starts + size);
    histogram = calloc(SLOWEST_US, sizeof *histogram);
    struct connection *connections = calloc((size_t)count, sizeof *connections);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!bytes || !histogram || !connections || epoll_fd < 0)
        die("cannot start", errno);
    uint32_t random = 1;
    for (size_t i = 0; i < starts + size; i++)
        bytes[i] = (char)((random = random * 1664525 + 1013904223) >> 24);

    for (int i = 0; i < count; i++)
        start(&connections[i], port, epoll_fd);
    uint64_t begin = now_us(), end = begin + (uint64_t)seconds * 1000000;
    for (int i = 0; i < count; i++) {
        connections[i].begin = (size_t)i * 131 % starts;
        next_message(&connections[i]);
    }
    while (now_us() < end) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll_fd, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            send_some(events[i].data.ptr);
            receive_some(events[i].data.ptr);
        }
    }
    double took = (double)(now_us() - begin) / 1e6;
    printf("  50%% %uus\n  99%% %uus\n  %lu requests in %.2fs\nRequests/sec: %.0f\n", percentile(50), percentile(99),
           (unsigned long)messages, took, (double)messages / took);
}
