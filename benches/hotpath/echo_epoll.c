/* An echo server on epoll, one thread. */
#define _GNU_SOURCE
#include "epoll.h"

static struct unsent *connections; /* by descriptor */

static void serve(int fd, uint32_t events)
{
    static char received[32768];
    struct unsent *unsent = &connections[fd];
    bool open = !unsent->data || send_or_keep(unsent, fd, unsent->data, unsent->length);

    while (open && !unsent->data) {
        ssize_t length = recv(fd, received, sizeof received, 0);
        if (length < 0 && errno == EAGAIN)
            return;
        open = length > 0 && send_or_keep(unsent, fd, received, (size_t)length);
        if (open && (size_t)length < sizeof received && emptied(events))
            return;
    }
    if (!open) {
        free(unsent->data);
        *unsent = (struct unsent){0};
        close(fd);
    }
}

int main(int argc, char **argv)
{
    connections = table_by_fd(sizeof *connections);
    serve_forever(argc, argv, serve);
}
