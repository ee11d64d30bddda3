// The header from C++17: the ring in a std::unique_ptr, one echo over a socket pair.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>

#include <shmhot.h>

namespace {

struct free_ring {
    void operator()(hotpath_ring_t *ring) const { hotpath_ring_free(ring); }
};

void check(bool good, const char *what)
{
    if (good) return;
    char why[256];
    shmhot_last_error(why, sizeof why);
    std::printf("FAILED cxx.cpp: %s (%s)\n", what, why);
    std::exit(1);
}

}  // namespace

int main()
{
    if (!hotpath_supported()) {
        std::puts("SKIP cxx: io_uring is refused");
        return 77;
    }
    const std::unique_ptr<hotpath_ring_t, free_ring> ring{hotpath_ring_new(8, 4, 4096)};
    check(ring != nullptr, "hotpath_ring_new");

    int fds[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    check(hotpath_submit_recv(ring.get(), fds[0]) == 0, "hotpath_submit_recv");
    check(write(fds[1], "hello", 5) == 5, "write");

    hotpath_completion_t got{};
    check(hotpath_wait(ring.get(), 1, 5000, &got, 1) == 1, "hotpath_wait");
    const std::uint8_t *bytes = nullptr;
    const auto length = hotpath_buffer(ring.get(), got.buf_id, &bytes);
    check(length == 5, "hotpath_buffer");
    check(std::string_view(reinterpret_cast<const char *>(bytes), 5) == "hello", "the bytes");
    check(hotpath_send_buffer(ring.get(), fds[0], got.buf_id, 0, 5, HOTPATH_QUIET) == 0, "hotpath_send_buffer");
    check(hotpath_flush(ring.get()) == 0, "hotpath_flush");

    char echo[5];
    check(read(fds[1], echo, sizeof echo) == 5 && std::memcmp(echo, "hello", 5) == 0, "the echo");
    close(fds[0]);
    close(fds[1]);
    std::puts("ok cxx.cpp");
}
