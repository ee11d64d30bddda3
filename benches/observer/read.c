/* Reads 1,000 segments of 8 fields, once by each way in a round, as who asks now and then does: bare loads,
 * observer_store_read, observer_store_read_many. Prints nanoseconds for a segment, the three of a round in a line:
 * read PATH ROUNDS */
#include <fcntl.h>
#include <shmhot.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SEGMENTS = 1000, FIELDS = 8, BYTES = 512 };

static void check(int32_t status)
{
    if (status < 0) {
        char why[256];
        shmhot_last_error(why, sizeof why);
        fprintf(stderr, "read: %s\n", why);
        exit(1);
    }
}

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* The fields that main declares: u32, u64 twice; two u64, an f64, a u32, packed. */
static uint64_t load(const volatile unsigned char *segment)
{
    typedef volatile uint64_t __attribute__((aligned(1))) u64;
    typedef volatile uint32_t __attribute__((aligned(1))) u32;
    return *(const u32 *)segment + *(const u64 *)(segment + 4) + *(const u32 *)(segment + 12) +
           *(const u64 *)(segment + 16) + *(const u64 *)(segment + 24) + *(const u64 *)(segment + 32) +
           *(const u64 *)(segment + 40) + *(const u32 *)(segment + 48);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    static const uint8_t types[FIELDS] = {OBSERVER_U32_LE, OBSERVER_U64_LE, OBSERVER_U32_LE, OBSERVER_U64_LE,
                                          OBSERVER_U64_LE, OBSERVER_U64_LE, OBSERVER_F64_LE, OBSERVER_U32_LE};
    observer_schema_t *schema;
    observer_store_t *store;
    check(observer_schema_new(OBSERVER_PACKED, &schema));
    for (int i = 0; i < FIELDS; i++) {
        char name[] = {'f', (char)('0' + i), 0};
        observer_field_t field = {.size = sizeof field, .name = name, .type = types[i]};
        check(observer_schema_add(schema, &field));
    }
    check(observer_store_create(argv[1], NULL, &store));
    for (int i = 0; i < SEGMENTS; i++)
        check(observer_store_allocate(store, schema, "bench", 0));
    int fd = open(argv[1], O_RDONLY);
    const volatile unsigned char *memory = mmap(NULL, SEGMENTS * BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        perror(argv[1]);
        return 1;
    }

    static observer_value_t values[SEGMENTS * FIELDS];
    static int32_t counts[SEGMENTS];
    volatile uint64_t sum = 0;
    for (long round = strtol(argv[2], NULL, 10); round > 0; round--) {
        double times[4];
        times[0] = now_ns();
        for (int i = 0; i < SEGMENTS; i++)
            sum += load(memory + i * BYTES);
        times[1] = now_ns();
        for (uint32_t i = 0; i < SEGMENTS; i++)
            check(observer_store_read(store, i, values, FIELDS));
        times[2] = now_ns();
        check(observer_store_read_many(store, 0, SEGMENTS, values, FIELDS, counts));
        times[3] = now_ns();
        for (int i = 0; i < 3; i++)
            printf("%.2f%c", (times[i + 1] - times[i]) / SEGMENTS, i < 2 ? ' ' : '\n');
    }
    check(observer_store_close(store));
    return 0;
}
