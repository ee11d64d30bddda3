/* An HTTP server straight on liburing, one thread: the limit to measure against. One system call a turn; a receive
 * stays armed and takes its buffers from a ring that the kernel fills. `-r` chooses how bytes are received:
 *   multishot  armed once per connection (the best when connections are kept)
 *   ring       armed for every receive, buffer from the ring
 *   own        armed for every receive, buffer of the connection (the best for one request per connection) */
#define _GNU_SOURCE
#include "../../c-examples/http.h"
#include "server.h"

#include <liburing.h>
#include <sys/mman.h>

enum { QUEUE_DEPTH = 4096, BUFFERS = 512, GROUP = 0 };
enum operation { ACCEPT, RECEIVE, SEND, SEND_LAST, OTHER };

struct connection {
    struct http_conn http;
    bool open, receiving, sending;
    char *in_flight; /* of the send in flight, unless they are static */
    size_t sending_length;
    char *queued; /* answers that wait for the send in flight */
    size_t queued_length;
};

static enum { MULTISHOT, RING, OWN } receive_mode;
static struct connection *connections; /* by descriptor */
static char *own_buffers;              /* by descriptor, in OWN mode */
static struct io_uring ring;
static struct io_uring_buf_ring *buffer_ring;
static char buffers[BUFFERS][HTTP_RECV_MAX];

/* Entries for requests that must go to the kernel together. The prep functions leave user_data alone. */
static void reserve(unsigned count)
{
    if (io_uring_sq_space_left(&ring) < count)
        io_uring_submit(&ring);
}

static struct io_uring_sqe *entry(enum operation operation, int fd)
{
    reserve(1);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    sqe->user_data = (uint64_t)operation << 32 | (uint32_t)fd;
    return sqe;
}

static void receive(int fd)
{
    struct io_uring_sqe *sqe = entry(RECEIVE, fd);
    connections[fd].receiving = true;
    if (receive_mode == OWN) {
        io_uring_prep_recv(sqe, fd, own_buffers + (size_t)fd * HTTP_RECV_MAX, HTTP_RECV_MAX, 0);
        return;
    }
    if (receive_mode == MULTISHOT)
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    else
        io_uring_prep_recv(sqe, fd, NULL, HTTP_RECV_MAX, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
}

static void give_buffer(uint32_t id)
{
    io_uring_buf_ring_add(buffer_ring, buffers[id], HTTP_RECV_MAX, (uint16_t)id, io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(buffer_ring, 1);
}

/* Silent unless it fails; a cancelled receive tells itself. */
static void close_socket(int fd, bool cancel_receive)
{
    reserve(2);
    if (cancel_receive) {
        struct io_uring_sqe *cancel = entry(OTHER, fd);
        io_uring_prep_cancel64(cancel, (uint64_t)RECEIVE << 32 | (uint32_t)fd, 0);
        cancel->flags |= IOSQE_IO_HARDLINK | IOSQE_CQE_SKIP_SUCCESS;
    }
    struct io_uring_sqe *sqe = entry(OTHER, fd);
    io_uring_prep_close(sqe, fd);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

static void end_connection(int fd)
{
    close_socket(fd, connections[fd].receiving);
    http_forget(&connections[fd].http);
    connections[fd] = (struct connection){0};
}

/* MSG_WAITALL lets the kernel continue a short send. */
static struct io_uring_sqe *prepare_send(enum operation operation, int fd, const char *data, size_t length)
{
    struct io_uring_sqe *sqe = entry(operation, fd);
    io_uring_prep_send(sqe, fd, data, length, MSG_WAITALL | MSG_NOSIGNAL);
    return sqe;
}

/* One send is in flight at a time: only then do answers keep their order whatever the socket takes. */
static void start_send(int fd, const char *data, size_t length)
{
    connections[fd].sending = true;
    connections[fd].sending_length = length;
    prepare_send(SEND, fd, data, length);
}

static char *append(char *to, size_t to_length, const char *data, size_t length)
{
    to = realloc(to, to_length + length);
    if (!to)
        die("cannot keep answers", ENOMEM);
    memcpy(to + to_length, data, length);
    return to;
}

static void send_answers(int fd, const char *data, size_t length, bool is_static)
{
    struct connection *conn = &connections[fd];
    if (conn->sending) {
        conn->queued = append(conn->queued, conn->queued_length, data, length);
        conn->queued_length += length;
    } else if (!is_static) {
        conn->in_flight = append(NULL, 0, data, length);
        start_send(fd, conn->in_flight, length);
    } else if (conn->http.closing && !conn->http.lingering) {
        reserve(3);
        prepare_send(SEND_LAST, fd, data, length)->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
        end_connection(fd);
    } else {
        start_send(fd, data, length);
    }
}

static void sent(int fd, int result)
{
    struct connection *conn = &connections[fd];
    bool failed = result < 0 || (size_t)result < conn->sending_length;
    free(conn->in_flight);
    conn->in_flight = conn->queued;
    conn->queued = NULL;
    conn->sending = false;
    if (conn->in_flight && !failed) {
        start_send(fd, conn->in_flight, conn->queued_length);
        conn->queued_length = 0;
    } else if (failed || (conn->http.closing && !conn->http.lingering)) {
        free(conn->in_flight);
        end_connection(fd);
    } else if (conn->http.lingering) {
        shutdown(fd, SHUT_WR);
    }
}

static void received(int fd, const struct io_uring_cqe *cqe)
{
    static struct http_out out;
    struct connection *conn = &connections[fd];
    const char *data = receive_mode == OWN ? own_buffers + (size_t)fd * HTTP_RECV_MAX : buffers[cqe->flags >> IORING_CQE_BUFFER_SHIFT];

    if (conn->open && cqe->res != -ECANCELED) {
        conn->receiving = cqe->flags & IORING_CQE_F_MORE;
        if (cqe->res > 0 && !conn->http.closing) {
            http_feed(&conn->http, data, (size_t)cqe->res, &out);
            if (out.length)
                send_answers(fd, out.data, out.length, out.data != out.gathered);
        } else if (cqe->res <= 0 && cqe->res != -ENOBUFS) {
            conn->http.closing = true;
            conn->http.lingering = false;
            if (!conn->sending)
                end_connection(fd);
        }
        if (conn->open && !conn->receiving && (cqe->res > 0 || cqe->res == -ENOBUFS))
            receive(fd);
    }
    if (cqe->flags & IORING_CQE_F_BUFFER)
        give_buffer(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
}

static void accepting(int listener)
{
    io_uring_prep_multishot_accept(entry(ACCEPT, listener), listener, NULL, NULL, SOCK_CLOEXEC);
}

static void accepted(int listener, const struct io_uring_cqe *cqe)
{
    if (cqe->res < 0 && cqe->res != -ECONNABORTED)
        die("accept", -cqe->res);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        accepting(listener);
    if (cqe->res < 0)
        return;
    connections[cqe->res].open = true;
    receive(cqe->res);
}

static void set_up(void)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = 4 * QUEUE_DEPTH,
    };
    int status = io_uring_queue_init_params(QUEUE_DEPTH, &ring, &params);
    if (status < 0)
        die("cannot set io_uring up", -status);
    io_uring_register_ring_fd(&ring);

    buffer_ring = mmap(NULL, BUFFERS * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct io_uring_buf_reg registration = {.ring_addr = (uintptr_t)buffer_ring, .ring_entries = BUFFERS, .bgid = GROUP};
    status = buffer_ring == MAP_FAILED ? -errno : io_uring_register_buf_ring(&ring, &registration, 0);
    if (status < 0)
        die("cannot register the buffers", -status);
    for (uint32_t id = 0; id < BUFFERS; id++)
        give_buffer(id);
}

int main(int argc, char **argv)
{
    int port = 0, option;
    while ((option = getopt(argc, argv, "p:r:")) != -1)
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'r': receive_mode = !strcmp(optarg, "own") ? OWN : !strcmp(optarg, "ring") ? RING : MULTISHOT; break;
        default: return 2;
        }
    http_prepare();
    connections = table_by_fd(sizeof *connections);
    own_buffers = table_by_fd(HTTP_RECV_MAX); /* untouched pages cost nothing */
    set_up();
    accepting(bench_listen(port, 0));
    for (;;) {
        int status = io_uring_submit_and_wait(&ring, 1);
        if (status < 0 && status != -EINTR)
            die("io_uring_submit_and_wait", -status);
        struct io_uring_cqe *cqe;
        unsigned head, count = 0;
        io_uring_for_each_cqe(&ring, head, cqe) {
            int fd = (int)(uint32_t)cqe->user_data;
            switch ((enum operation)(cqe->user_data >> 32)) {
            case ACCEPT: accepted(fd, cqe); break;
            case RECEIVE: received(fd, cqe); break;
            case SEND: sent(fd, cqe->res); break;
            case SEND_LAST: close_socket(fd, true); break; /* it failed, and what was linked to it did not happen */
            case OTHER: break;
            }
            count++;
        }
        io_uring_cq_advance(&ring, count);
    }
}
