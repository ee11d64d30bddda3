/* An HTTP/1.1 server: a ring and a listener for each worker thread, requests parsed in the buffers they arrived in.
 *
 *     http_server [-p port] [-w workers] [-t idle seconds]
 *
 * Port 0 lets the kernel choose. SIGINT and SIGTERM finish what has begun and end the server with status 0. */
#define _GNU_SOURCE
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <shmhot.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BATCH = 256, MAX_WORKERS = 64, LINGER_MS = 2000, DRAIN_MS = 5000 };

struct worker {
    pthread_t thread;
    hotpath_ring_t *ring;
    hotpath_buffers_t pool;
    int listener;
    bool draining;
    struct http_out out;
};

struct connection {
    struct http_conn http;
    struct worker *worker; /* NULL: not open, or being closed */
};

static struct connection *connections; /* by descriptor */
static int32_t connections_limit;
static uint32_t idle_ms;

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "http_server: %s: %s\n", what, why);
    exit(1);
}

/* For calls that fail only when something is wrong: the library has the sentence. */
static int32_t check(int32_t status, const char *what)
{
    if (status < 0) {
        char why[256];
        shmhot_last_error(why, sizeof why);
        fail(what, why);
    }
    return status;
}

/* What is queued still goes out, for as long as that may take; 0 ms drops it. */
static void end_connection(struct worker *worker, int fd, uint32_t within_ms)
{
    struct connection *conn = &connections[fd];
    if (conn->http.lingering)
        hotpath_cancel_timeout(worker->ring, fd);
    http_forget(&conn->http);
    conn->worker = NULL;
    check(hotpath_submit_close_within(worker->ring, fd, within_ms), "cannot close");
}

static void received(struct worker *worker, int fd, const uint8_t *data, size_t length)
{
    struct http_conn *http = &connections[fd].http;
    struct http_out *out = &worker->out;
    http->last = worker->draining;
    http_feed(http, (const char *)data, length, out);
    /* Refused when the peer has gone, or leaves so many answers unread that the queue is full. */
    if (out->length && hotpath_send(worker->ring, fd, out->data, out->length, HOTPATH_QUIET) < 0) {
        end_connection(worker, fd, 0);
    } else if (http->lingering && out->length) {
        if (hotpath_submit_shutdown(worker->ring, fd) < 0)
            end_connection(worker, fd, 0);
        else
            check(hotpath_submit_timeout(worker->ring, fd, LINGER_MS), "cannot set a deadline");
    } else if (http->closing && !http->lingering) {
        end_connection(worker, fd, HOTPATH_NO_TIMEOUT);
    }
}

static void accepted(struct worker *worker, const hotpath_completion_t *event)
{
    if (event->result < 0) {
        if (!worker->draining && !(event->flags & HOTPATH_F_MORE))
            fail("cannot accept", shmhot_strerror((int32_t)event->result));
        return;
    }
    int fd = (int)event->result;
    connections[fd].worker = worker;
    check(hotpath_submit_recv(worker->ring, fd), "cannot receive");
    if (idle_ms)
        check(hotpath_set_idle_timeout(worker->ring, fd, idle_ms), "cannot set the idle timeout");
}

/* Connections between two requests end now, the others with their answer. */
static void drain(struct worker *worker)
{
    worker->draining = true;
    check(hotpath_drain(worker->ring, DRAIN_MS), "cannot drain");
    for (int fd = 0; fd < connections_limit; fd++) {
        struct connection *conn = &connections[fd];
        if (conn->worker == worker && !conn->http.due && !conn->http.carried && !conn->http.lingering)
            end_connection(worker, fd, HOTPATH_NO_TIMEOUT);
    }
}

/* False when the worker is done. */
static bool handle(struct worker *worker, const hotpath_completion_t *event)
{
    int fd = event->fd;
    switch (event->op_kind) {
    case HOTPATH_OP_ACCEPT:
        accepted(worker, event);
        break;
    case HOTPATH_OP_RECV:
        if (event->result > 0) {
            received(worker, fd, worker->pool.base + (size_t)event->buf_id * worker->pool.buf_size, (size_t)event->result);
            check(hotpath_release_buf(worker->ring, event->buf_id), "cannot release a buffer");
        } else {
            end_connection(worker, fd, event->result == 0 ? HOTPATH_NO_TIMEOUT : 0);
        }
        break;
    case HOTPATH_OP_SEND: /* a quiet send tells only its failure */
        if (!(event->flags & HOTPATH_F_ENDED) && connections[fd].worker)
            end_connection(worker, fd, 0);
        break;
    case HOTPATH_OP_TIMEOUT:
        if (connections[event->result].http.lingering)
            end_connection(worker, (int)event->result, 0);
        break;
    case HOTPATH_OP_WAKE:
        drain(worker);
        break;
    case HOTPATH_OP_DRAIN:
        return false;
    }
    return true;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    hotpath_completion_t events[BATCH];
    check(hotpath_buffers(worker->ring, &worker->pool), "cannot find the buffers"); /* from here on the ring is this thread's */
    check(hotpath_submit_accept(worker->ring, worker->listener), "cannot accept");
    for (bool running = true; running;) {
        int32_t count = check(hotpath_wait(worker->ring, 1, HOTPATH_NO_TIMEOUT, events, BATCH), "cannot wait");
        for (int32_t i = 0; i < count; i++)
            running &= handle(worker, &events[i]);
    }
    check(hotpath_ring_free(worker->ring), "cannot free the ring");
    close(worker->listener);
    return NULL;
}

/* Workers share the port; the kernel spreads connections over their listeners. What is set here, accepted sockets inherit. */
static int listen_on(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 ||
        listen(fd, SOMAXCONN) < 0 || getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        fail("cannot listen", strerror(errno));
    *port = ntohs(address.sin_port);
    return fd;
}

static void prepare_connections(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 1 << 20 ? limit.rlim_max : 1 << 20;
    setrlimit(RLIMIT_NOFILE, &limit);
    connections_limit = (int32_t)limit.rlim_cur;
    connections = calloc((size_t)connections_limit, sizeof *connections);
    if (!connections)
        fail("cannot prepare connections", strerror(ENOMEM));
}

static int number(const char *text, int least, int most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < least || value > most) {
        fprintf(stderr, "http_server: %s is not a number from %d to %d\n", text, least, most);
        exit(2);
    }
    return (int)value;
}

int main(int argc, char **argv)
{
    static struct worker workers[MAX_WORKERS];
    int port = 8080, count = 1, option;
    while ((option = getopt(argc, argv, "p:w:t:")) != -1) {
        switch (option) {
        case 'p': port = number(optarg, 0, 65535); break;
        case 'w': count = number(optarg, 1, MAX_WORKERS); break;
        case 't': idle_ms = (uint32_t)number(optarg, 0, 86400) * 1000; break;
        default: fputs("usage: http_server [-p port] [-w workers] [-t idle seconds]\n", stderr); return 2;
        }
    }

    /* Blocked before there are threads, so that the signals reach only sigwait below. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    http_prepare();
    prepare_connections();
    for (int i = 0; i < count; i++) {
        struct worker *worker = &workers[i];
        worker->listener = listen_on(&port);
        worker->ring = hotpath_ring_new(1024, 512, HTTP_RECV_MAX);
        if (!worker->ring)
            check(shmhot_last_status(), "cannot make a ring");
    }
    for (int i = 0; i < count; i++)
        if ((errno = pthread_create(&workers[i].thread, NULL, work, &workers[i])))
            fail("cannot start a worker", strerror(errno));
    printf("listening on 127.0.0.1:%d\n", port);
    fflush(stdout);

    int signal;
    sigwait(&signals, &signal);
    for (int i = 0; i < count; i++)
        check(hotpath_wake(workers[i].ring), "cannot wake a worker");
    for (int i = 0; i < count; i++)
        pthread_join(workers[i].thread, NULL);
    free(connections);
}
