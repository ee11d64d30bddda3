/* The calls of circbuf with one frame of 32 bytes, each in turn, to be counted by callgrind: calls COUNT NAME */
#include "bench.h"

enum { CHANNELS = 8, RING = 1000 };

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    circbuf_t *stream = make_stream(argv[2], CHANNELS, RING);
    circbuf_mirror_t *mirror = make_mirror(argv[2]);
    float frame[CHANNELS] = {1, 2, 3, 4, 5, 6, 7, 8};
    circbuf_reservation_t room = {.size = sizeof room};
    circbuf_span_t span = {.size = sizeof span};
    circbuf_view_t view = {.size = sizeof view};
    for (unsigned long i = strtoul(argv[1], NULL, 10); i > 0; i--) {
        check(circbuf_write(stream, frame, NULL, 1));
        check(circbuf_mirror_wait(mirror, 1, 0));
        check(circbuf_mirror_read(mirror, frame, sizeof frame, NULL, 1, &span));
        check(circbuf_reserve(stream, 1, &room));
        check(circbuf_commit(stream, 1));
        check(circbuf_mirror_view(mirror, 1, &view));
        check(circbuf_mirror_view_is_intact(mirror, &view));
    }
    check(circbuf_mirror_close(mirror));
    check(circbuf_close(stream));
    return 0;
}
