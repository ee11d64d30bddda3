/* Calls of the observer, to be counted by callgrind: calls CALL COUNT PATH */
#include <fcntl.h>
#include <shmhot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check(int32_t status)
{
    if (status < 0) {
        char why[256];
        shmhot_last_error(why, sizeof why);
        fprintf(stderr, "calls: %s\n", why);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    observer_schema_t *schema;
    observer_t *observer;
    const struct {
        const char *name;
        uint8_t type;
    } fields[] = {
        {"connections_active", OBSERVER_U32_LE},
        {"connections_total", OBSERVER_U64_LE}, /* at 4: not aligned */
        {"requests_active", OBSERVER_U32_LE},
        {"requests_total", OBSERVER_U64_LE}, /* at 16 */
    };
    check(observer_schema_new(OBSERVER_PACKED, &schema));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        observer_field_t field = {.size = sizeof field, .name = fields[i].name, .type = fields[i].type};
        check(observer_schema_add(schema, &field));
    }
    int fd = open(argv[3], O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || ftruncate(fd, 4096) < 0) {
        perror(argv[3]);
        return 1;
    }
    check(observer_open(schema, argv[3], 512, 0, NULL, &observer));
    unlink(argv[3]);

    const char *call = argv[1];
    uint64_t count = strtoull(argv[2], NULL, 10);
    int32_t failed = 0;
    if (strcmp(call, "nothing") == 0) /* what the loop and a call cost */
        for (uint64_t i = 0; i < count; i++)
            failed |= shmhot_abi_version() != SHMHOT_ABI_VERSION;
    else if (strcmp(call, "set_u64") == 0)
        for (uint64_t i = 0; i < count; i++)
            failed |= observer_set_u64(observer, 3, i);
    else if (strcmp(call, "set_u64_unaligned") == 0)
        for (uint64_t i = 0; i < count; i++)
            failed |= observer_set_u64(observer, 1, i);
    else if (strcmp(call, "set_u64_u32") == 0)
        for (uint64_t i = 0; i < count; i++)
            failed |= observer_set_u64(observer, 0, i);
    else if (strcmp(call, "set_by_name") == 0)
        for (uint64_t i = 0; i < count; i++)
            failed |= observer_set(observer, "requests_total", (double)i);
    else if (strcmp(call, "add_u64") == 0)
        for (uint64_t i = 0; i < count; i++)
            failed |= observer_add_u64(observer, 3, 1);
    else
        return 2;
    check(failed);
    check(observer_close(observer));
    return 0;
}
