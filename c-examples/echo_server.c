/* An echo server that copies nothing: a buffer that a receive filled is sent back as it is.
 *
 *     echo_server [-p port] [-n buffers] [-b buffer size]
 *
 * Port 0 lets the kernel choose. SIGINT and SIGTERM end it with status 0. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <shmhot.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH = 256 };

static hotpath_ring_t *ring;

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "echo_server: %s: %s\n", what, why);
    exit(1);
}

static int32_t check(int32_t status, const char *what)
{
    if (status < 0) {
        char why[256];
        shmhot_last_error(why, sizeof why);
        fail(what, why);
    }
    return status;
}

/* Sent back and released in one. Refused when the peer has gone, or does not read what it gets back. */
static void echo(const hotpath_completion_t *event)
{
    if (hotpath_send_buffer(ring, event->fd, event->buf_id, 0, (uint32_t)event->result, HOTPATH_QUIET) < 0) {
        check(hotpath_release_buf(ring, event->buf_id), "cannot release a buffer");
        hotpath_submit_close_within(ring, event->fd, 0);
    }
}

/* False when it is time to end. */
static bool handle(const hotpath_completion_t *event)
{
    switch (event->op_kind) {
    case HOTPATH_OP_ACCEPT:
        if (event->result >= 0)
            check(hotpath_submit_recv(ring, (int)event->result), "cannot receive");
        else if (!(event->flags & HOTPATH_F_MORE))
            fail("cannot accept", shmhot_strerror((int32_t)event->result));
        break;
    case HOTPATH_OP_RECV:
        if (event->result > 0)
            echo(event);
        else
            hotpath_submit_close(ring, event->fd);
        break;
    case HOTPATH_OP_SEND: /* a quiet send tells only its failure, and what fails a send ends the receive too */
        break;
    case HOTPATH_OP_WAKE:
        return false;
    }
    return true;
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 ||
        listen(fd, SOMAXCONN) < 0 || getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        fail("cannot listen", strerror(errno));
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void stop(int signal)
{
    (void)signal;
    hotpath_wake(ring);
}

static int number(const char *text, int least, int most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < least || value > most) {
        fprintf(stderr, "echo_server: %s is not a number from %d to %d\n", text, least, most);
        exit(2);
    }
    return (int)value;
}

int main(int argc, char **argv)
{
    int port = 7007, n_bufs = 512, buf_size = 8192, option;
    while ((option = getopt(argc, argv, "p:n:b:")) != -1) {
        switch (option) {
        case 'p': port = number(optarg, 0, 65535); break;
        case 'n': n_bufs = number(optarg, 1, 32768); break;
        case 'b': buf_size = number(optarg, 1, 1 << 30); break;
        default: fputs("usage: echo_server [-p port] [-n buffers] [-b buffer size]\n", stderr); return 2;
        }
    }
    ring = hotpath_ring_new(1024, (uint16_t)n_bufs, (uint32_t)buf_size);
    if (!ring)
        check(shmhot_last_status(), "cannot make a ring");
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    int listener = listen_on(port);
    check(hotpath_submit_accept(ring, listener), "cannot accept");
    hotpath_completion_t events[BATCH];
    for (bool running = true; running;) {
        int32_t count = check(hotpath_wait(ring, 1, HOTPATH_NO_TIMEOUT, events, BATCH), "cannot wait");
        for (int32_t i = 0; i < count; i++)
            running &= handle(&events[i]);
    }
    check(hotpath_ring_free(ring), "cannot free the ring");
    close(listener);
}
