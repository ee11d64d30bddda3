/* Metrics from C: schemas, fields of segments, and stores; each call with its results and with what it refuses. */
#include "check.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[] = "/tmp/shmhot-observer-XXXXXX";
static char path[64], sidecar[80]; /* the files of most tests; none when a test begins or ends */

static int32_t add_field(observer_schema_t *schema, const char *name, uint8_t type)
{
    observer_field_t field = {.size = sizeof field, .name = name, .type = type};
    return observer_schema_add(schema, &field);
}

/* The original's own. */
static observer_schema_t *a_schema(uint32_t layout)
{
    observer_schema_t *schema;
    CHECK_EQ(observer_schema_new(layout, &schema), 0);
    CHECK_EQ(add_field(schema, "connections_active", OBSERVER_U32_LE), 0);
    CHECK_EQ(add_field(schema, "connections_total", OBSERVER_U64_LE), 1);
    CHECK_EQ(add_field(schema, "requests_active", OBSERVER_U32_LE), 2);
    CHECK_EQ(add_field(schema, "requests_total", OBSERVER_U64_LE), 3);
    return schema;
}

/* A file of zeros. */
static void put_zeros(off_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, length), 0);
    close(fd);
}

static void check_bytes(off_t offset, const void *expected, size_t length)
{
    uint8_t got[64];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && length <= sizeof got);
    CHECK_EQ(pread(fd, got, length, offset), length);
    CHECK(memcmp(got, expected, length) == 0);
    close(fd);
}

static observer_t *open_segment(const observer_schema_t *schema, uint64_t offset, uint32_t flags)
{
    observer_options_t options = {.size = sizeof options, .flags = flags};
    observer_t *observer;
    CHECK_EQ(observer_open(schema, path, 64, offset, &options, &observer), 0);
    return observer;
}

static observer_value_t get(const observer_t *observer, uint32_t index)
{
    observer_value_t value = {.reserved = 1};
    CHECK_EQ(observer_get(observer, index, &value), 0);
    CHECK_EQ(value.reserved, 0);
    return value;
}

static uint64_t get_u64(const observer_t *observer, uint32_t index)
{
    observer_value_t value = get(observer, index);
    CHECK_EQ(value.type, OBSERVER_UNSIGNED);
    return value.number.as_u64;
}

static observer_store_t *new_store(uint32_t segments)
{
    observer_store_options_t options = {.size = sizeof options, .segments = segments};
    observer_store_t *store;
    CHECK_EQ(observer_store_create(path, &options, &store), 0);
    return store;
}

static observer_store_t *open_store(uint32_t flags)
{
    observer_store_options_t options = {.size = sizeof options, .flags = flags};
    observer_store_t *store;
    CHECK_EQ(observer_store_open(path, &options, &store), 0);
    return store;
}

static void remove_store(observer_store_t *store)
{
    CHECK_EQ(observer_store_close(store), 0);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(unlink(sidecar), 0);
}

static void types(void)
{
    static const char *names[] = {
        "U8", "S8", "u16", "U16", "s16", "S16", "u32", "U32", "s32", "S32", "u64", "U64", "s64", "S64", "f32", "F32",
        "f64", "F64",
    };
    static const struct {
        const char *alias;
        int32_t type;
    } aliases[] = {{"u8", OBSERVER_U8}, {"i8", OBSERVER_S8}, {"i32", OBSERVER_S32_LE}, {"I64", OBSERVER_S64_BE}};
    static const int32_t none[] = {0, 19, -1, INT32_MIN, INT32_MAX};
    CHECK_EQ(LEN(names), OBSERVER_F64_BE);
    for (int32_t type = OBSERVER_U8; type <= OBSERVER_F64_BE; type++) {
        CHECK_EQ(observer_type(names[type - 1]), type);
        CHECK(strcmp(observer_type_name(type), names[type - 1]) == 0);
    }
    for (size_t i = 0; i < LEN(aliases); i++) CHECK_EQ(observer_type(aliases[i].alias), aliases[i].type);
    CHECK_ERROR(observer_type("u128"), -EINVAL, "type");
    CHECK_ERROR(observer_type(""), -EINVAL, "type");
    for (size_t i = 0; i < LEN(none); i++) CHECK(!observer_type_name(none[i]));
}

static void schemas(void)
{
    static const uint32_t packed[] = {0, 4, 12, 16}, aligned[] = {0, 8, 16, 24};
    const char *name = "load", *help = "Share of time.", *unit = "ratio";
    for (uint32_t layout = OBSERVER_PACKED; layout <= OBSERVER_ALIGNED; layout++) {
        observer_schema_t *schema = a_schema(layout);
        const uint32_t *offsets = layout == OBSERVER_ALIGNED ? aligned : packed;
        for (uint32_t i = 0; i < 4; i++) {
            observer_field_t field = {.size = sizeof field};
            CHECK_EQ(observer_schema_field(schema, i, &field), 0);
            CHECK_EQ(field.offset, offsets[i]);
            CHECK_EQ(field.type, i % 2 ? OBSERVER_U64_LE : OBSERVER_U32_LE);
            CHECK_EQ(observer_schema_index(schema, field.name), i);
            CHECK(*field.help == '\0' && *field.unit == '\0');
        }
        CHECK_EQ(observer_schema_count(schema), 4);
        CHECK_EQ(observer_schema_size(schema), offsets[3] + 8);

        observer_field_t field = {.size = sizeof field, .name = name, .help = help, .unit = unit,
                                  .type = OBSERVER_F32_BE, .kind = OBSERVER_GAUGE};
        CHECK_EQ(observer_schema_add(schema, &field), 4);
        field = (observer_field_t){.size = sizeof field};
        CHECK_EQ(observer_schema_field(schema, 4, &field), 0);
        CHECK(field.name != name && strcmp(field.name, name) == 0);
        CHECK(strcmp(field.help, help) == 0 && strcmp(field.unit, unit) == 0);
        CHECK_EQ(field.type, OBSERVER_F32_BE);
        CHECK_EQ(field.kind, OBSERVER_GAUGE);
        CHECK_ERROR(observer_schema_field(schema, 5, &field), -ENOENT, "5");
        CHECK_ERROR(observer_schema_index(schema, "none"), -ENOENT, "none");
        CHECK_EQ(observer_schema_free(schema), 0);
    }
}

static void fields_that_cannot_be(void)
{
    char long_name[129] = "";
    observer_schema_t *schema = a_schema(OBSERVER_PACKED);
    observer_field_t sound = {.size = sizeof sound, .name = "new", .type = OBSERVER_U8}, field;
    memset(long_name, 'x', 128);

    CHECK_ERROR(add_field(schema, "requests_total", OBSERVER_U8), -EEXIST, "requests_total");
    CHECK_ERROR(add_field(schema, "", OBSERVER_U8), -EINVAL, "name");
    CHECK_ERROR(add_field(schema, long_name, OBSERVER_U8), -EINVAL, "127");
    CHECK_ERROR(add_field(schema, "\xff", OBSERVER_U8), -EILSEQ, "UTF-8");
    CHECK_ERROR(add_field(schema, NULL, OBSERVER_U8), -EINVAL, "name");
    CHECK_ERROR(add_field(schema, "new", 0), -EINVAL, "type");
    CHECK_ERROR(add_field(schema, "new", 19), -EINVAL, "type");
    field = sound;
    field.kind = 3;
    CHECK_ERROR(observer_schema_add(schema, &field), -EINVAL, "kind");
    field = sound;
    field.reserved = 1;
    CHECK_ERROR(observer_schema_add(schema, &field), -EINVAL, "reserved");
    field = sound;
    field.offset = 8;
    CHECK_ERROR(observer_schema_add(schema, &field), -EINVAL, "offset");
    field = sound;
    field.help = "\xff";
    CHECK_ERROR(observer_schema_add(schema, &field), -EILSEQ, "UTF-8");
    field = sound;
    field.size = 4;
    CHECK_ERROR(observer_schema_add(schema, &field), -EINVAL, "size");
    CHECK_EQ(observer_schema_count(schema), 4);

    for (int i = 4; i < 4096; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        CHECK_EQ(add_field(schema, name, OBSERVER_U8), i);
    }
    CHECK_ERROR(add_field(schema, "one too many", OBSERVER_U8), -E2BIG, "4096");
    CHECK_EQ(observer_schema_free(schema), 0);
}

/* Structs of a later version, of an earlier one, and of none. */
static void sizes_of_structs(void)
{
    struct {
        observer_options_t known;
        uint64_t of_a_later_version;
    } options = {.known = {.size = sizeof options}};
    struct {
        observer_store_options_t known;
        uint64_t of_a_later_version;
    } store_options = {.known = {.size = sizeof store_options}};
    observer_schema_t *schema = a_schema(OBSERVER_PACKED);
    observer_store_t *store;
    observer_t *observer;
    observer_worker_t worker;
    observer_field_t field;
    put_zeros(4096);

    CHECK_EQ(observer_open(schema, path, 64, 0, NULL, &observer), 0);
    CHECK_EQ(observer_close(observer), 0);
    CHECK_EQ(observer_open(schema, path, 64, 0, &options.known, &observer), 0);
    CHECK_EQ(observer_close(observer), 0);
    options.of_a_later_version = 1;
    CHECK_ERROR(observer_open(schema, path, 64, 0, &options.known, &observer), -E2BIG, "does not know");
    options.of_a_later_version = 0;
    for (uint32_t flag = 4; flag; flag <<= 1) {
        options.known.flags = flag;
        CHECK_ERROR(observer_open(schema, path, 64, 0, &options.known, &observer), -EINVAL, "flag");
    }
    options.known = (observer_options_t){.size = sizeof options.known, .reserved = 1};
    CHECK(observer_open(schema, path, 64, 0, &options.known, &observer) < 0);
    options.known = (observer_options_t){.size = 0};
    CHECK_ERROR(observer_open(schema, path, 64, 0, &options.known, &observer), -EINVAL, "size");
    CHECK_EQ(unlink(path), 0);

    CHECK_EQ(observer_store_create(path, &store_options.known, &store), 0);
    CHECK_EQ(observer_store_segment_size(store), 512);
    CHECK_EQ(observer_store_count(store), 64);
    CHECK_EQ(observer_store_allocate(store, schema, "web", 0), 0);
    worker.size = 0;
    CHECK_ERROR(observer_store_worker(store, 0, &worker), -EINVAL, "size");
    field.size = 3;
    CHECK_ERROR(observer_schema_field(schema, 0, &field), -EINVAL, "size");
    worker = (observer_worker_t){.size = offsetof(observer_worker_t, pid), .pid = 77};
    CHECK_EQ(observer_store_worker(store, 0, &worker), 0);
    CHECK_EQ(worker.offset, 0);
    CHECK_EQ(worker.pid, 77); /* an earlier version did not know it */
    CHECK_EQ(worker.size, offsetof(observer_worker_t, pid));
    remove_store(store);
    store_options.of_a_later_version = 1;
    CHECK_ERROR(observer_store_create(path, &store_options.known, &store), -E2BIG, "does not know");
    CHECK_ERROR(observer_store_open(path, &store_options.known, &store), -E2BIG, "does not know");
    store_options.of_a_later_version = 0;
    store_options.known.flags = 1; /* OBSERVER_REFUSE is of observers */
    CHECK_ERROR(observer_store_create(path, &store_options.known, &store), -EINVAL, "flag");
    CHECK_ERROR(observer_store_open(path, &store_options.known, &store), -EINVAL, "flag");
    store_options.known.flags = 8;
    CHECK_ERROR(observer_store_open(path, &store_options.known, &store), -EINVAL, "flag");
    CHECK(access(path, F_OK) < 0);
    CHECK_EQ(observer_schema_free(schema), 0);
}

static void null_arguments(void)
{
    observer_schema_t *schema = a_schema(OBSERVER_PACKED), *other = schema;
    observer_field_t field = {.size = sizeof field};
    observer_worker_t worker = {.size = sizeof worker};
    observer_store_t *store = new_store(8);
    observer_t *observer = open_segment(schema, 0, 0);
    observer_value_t value = {0};
    observer_slot_t slot;
    char text[16];
    int32_t counts[1];
    CHECK_EQ(observer_store_allocate(store, schema, NULL, 0), 0);

    CHECK_EQ(observer_schema_free(NULL), 0);
    CHECK_EQ(observer_close(NULL), 0);
    CHECK_EQ(observer_store_close(NULL), 0);
    CHECK_ERROR(observer_type(NULL), -EINVAL, "name");
    CHECK_ERROR(observer_schema_new(OBSERVER_PACKED, NULL), -EINVAL, "schema");
    CHECK_ERROR(observer_schema_new(2, &other), -EINVAL, "layout");
    CHECK(other == schema);
    CHECK_ERROR(observer_schema_add(NULL, &field), -EINVAL, "schema");
    CHECK_ERROR(observer_schema_add(schema, NULL), -EINVAL, "field");
    CHECK_ERROR(observer_schema_count(NULL), -EINVAL, "schema");
    CHECK_ERROR(observer_schema_size(NULL), -EINVAL, "schema");
    CHECK_ERROR(observer_schema_index(NULL, "name"), -EINVAL, "schema");
    CHECK_ERROR(observer_schema_index(schema, NULL), -EINVAL, "name");
    CHECK_ERROR(observer_schema_field(NULL, 0, &field), -EINVAL, "schema");
    CHECK_ERROR(observer_schema_field(schema, 0, NULL), -EINVAL, "out");

    CHECK_ERROR(observer_open(NULL, path, 64, 0, NULL, &observer), -EINVAL, "schema");
    CHECK_ERROR(observer_open(schema, NULL, 64, 0, NULL, &observer), -EINVAL, "path");
    CHECK_ERROR(observer_open(schema, path, 64, 0, NULL, NULL), -EINVAL, "observer");
    CHECK_ERROR(observer_index(NULL, "name"), -EINVAL, "observer");
    CHECK_ERROR(observer_index(observer, NULL), -EINVAL, "name");
    CHECK_ERROR(observer_set(NULL, "name", 1), -EINVAL, "observer");
    CHECK_ERROR(observer_set(observer, NULL, 1), -EINVAL, "name");
    CHECK_ERROR(observer_set_u64(NULL, 0, 1), -EINVAL, "observer");
    CHECK_ERROR(observer_set_i64(NULL, 0, 1), -EINVAL, "observer");
    CHECK_ERROR(observer_set_f64(NULL, 0, 1), -EINVAL, "observer");
    CHECK_ERROR(observer_add_u64(NULL, 0, 1), -EINVAL, "observer");
    CHECK_ERROR(observer_add_i64(NULL, 0, 1), -EINVAL, "observer");
    CHECK_ERROR(observer_add_f64(NULL, 0, 1), -EINVAL, "observer");
    CHECK_ERROR(observer_get(NULL, 0, &value), -EINVAL, "observer");
    CHECK_ERROR(observer_get(observer, 0, NULL), -EINVAL, "out");
    CHECK_ERROR(observer_slot(NULL, 0, &slot), -EINVAL, "observer");
    CHECK_ERROR(observer_slot(observer, 0, NULL), -EINVAL, "out");

    CHECK_ERROR(observer_store_create(NULL, NULL, &store), -EINVAL, "path");
    CHECK_ERROR(observer_store_create(path, NULL, NULL), -EINVAL, "store");
    CHECK_ERROR(observer_store_open(NULL, NULL, &store), -EINVAL, "path");
    CHECK_ERROR(observer_store_open(path, NULL, NULL), -EINVAL, "store");
    CHECK_ERROR(observer_store_reopen(NULL), -EINVAL, "store");
    CHECK_ERROR(observer_store_segment_size(NULL), -EINVAL, "store");
    CHECK_ERROR(observer_store_count(NULL), -EINVAL, "store");
    CHECK_ERROR(observer_store_allocate(NULL, schema, "", 0), -EINVAL, "store");
    CHECK_ERROR(observer_store_describe(NULL, 0, schema, "", 0), -EINVAL, "store");
    CHECK_ERROR(observer_store_describe(store, 0, NULL, "", 0), -EINVAL, "schema");
    CHECK_ERROR(observer_store_grow(NULL, 0), -EINVAL, "store");
    CHECK_ERROR(observer_store_free(NULL, 0), -EINVAL, "store");
    CHECK_ERROR(observer_store_reap(NULL), -EINVAL, "store");
    CHECK_ERROR(observer_store_next(NULL, -1), -EINVAL, "store");
    CHECK_ERROR(observer_store_worker(NULL, 0, &worker), -EINVAL, "store");
    CHECK_ERROR(observer_store_worker(store, 0, NULL), -EINVAL, "out");
    CHECK_ERROR(observer_store_schema(NULL, 0, &other), -EINVAL, "store");
    CHECK_ERROR(observer_store_schema(store, 0, NULL), -EINVAL, "schema");
    CHECK_ERROR(observer_store_read(NULL, 0, &value, 1), -EINVAL, "store");
    CHECK_ERROR(observer_store_read(store, 0, NULL, 1), -EINVAL, "values");
    CHECK_EQ(observer_store_read(store, 0, NULL, 0), 4);
    CHECK_ERROR(observer_store_read_many(NULL, 0, 1, &value, 1, counts), -EINVAL, "store");
    CHECK_ERROR(observer_store_read_many(store, 0, 1, NULL, 1, counts), -EINVAL, "values");
    CHECK_ERROR(observer_store_read_many(store, 0, 1, &value, 1, NULL), -EINVAL, "counts");
    CHECK_ERROR(observer_store_sum(NULL, NULL, "n", &value), -EINVAL, "store");
    CHECK_ERROR(observer_store_sum(store, NULL, NULL, &value), -EINVAL, "field");
    CHECK_ERROR(observer_store_sum(store, NULL, "n", NULL), -EINVAL, "out");
    CHECK_ERROR(observer_store_exposition(NULL, OBSERVER_PROMETHEUS, text, sizeof text), -EINVAL, "store");
    CHECK_ERROR(observer_store_exposition(store, OBSERVER_PROMETHEUS, NULL, 1), -EINVAL, "buf");
    CHECK_ERROR(observer_store_exposition(store, 2, text, sizeof text), -EINVAL, "format");

    CHECK_EQ(observer_close(observer), 0);
    CHECK_EQ(observer_schema_free(schema), 0);
    remove_store(store);
}

static void open_errors(void)
{
    observer_schema_t *schema = a_schema(OBSERVER_PACKED), *aligned = a_schema(OBSERVER_ALIGNED);
    observer_t *nothing = (observer_t *)folder, *observer = nothing;
    CHECK_ERROR(observer_open(schema, path, 64, 0, NULL, &observer), -ENOENT, path);
    CHECK_ERROR(observer_open(schema, "", 64, 0, NULL, &observer), -ENOENT, "");
    put_zeros(100);
    CHECK_ERROR(observer_open(schema, path, 23, 0, NULL, &observer), -EINVAL, "24");
    CHECK_ERROR(observer_open(schema, path, 101, 0, NULL, &observer), -EINVAL, path);
    CHECK_ERROR(observer_open(schema, path, 24, 77, NULL, &observer), -EINVAL, path);
    CHECK_ERROR(observer_open(schema, path, 24, UINT64_MAX, NULL, &observer), -EINVAL, path);
    CHECK_ERROR(observer_open(schema, path, SIZE_MAX, 1, NULL, &observer), -EINVAL, path);
    CHECK_ERROR(observer_open(aligned, path, 64, 4, NULL, &observer), -EINVAL, "8");
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(symlink(folder, path), 0);
    CHECK_ERROR(observer_open(schema, path, 64, 0, NULL, &observer), -ELOOP, path);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(mkfifo(path, 0600), 0);
    CHECK(observer_open(schema, path, 64, 0, NULL, &observer) < 0);
    CHECK(observer == nothing);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(observer_schema_free(schema), 0);
    CHECK_EQ(observer_schema_free(aligned), 0);
}

static void fields_of_a_segment(void)
{
    static const uint8_t bytes[] = {3, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 42};
    observer_schema_t *schema = a_schema(OBSERVER_PACKED);
    put_zeros(200);
    observer_t *observer = open_segment(schema, 101, 0), *reader = open_segment(schema, 101, OBSERVER_READ_ONLY);
    CHECK_EQ(observer_schema_free(schema), 0); /* the observers have copies */

    CHECK_EQ(observer_index(observer, "connections_total"), 1);
    CHECK_ERROR(observer_index(observer, "none"), -ENOENT, "none");
    CHECK_EQ(observer_set(observer, "connections_active", 3.9), 0);
    CHECK_EQ(observer_set_u64(observer, 1, UINT64_C(0x1122334455667788)), 0);
    CHECK_EQ(observer_set_i64(observer, 3, 40), 0);
    CHECK_EQ(observer_add_u64(observer, 3, 3), 0);
    CHECK_EQ(observer_add_i64(observer, 3, -2), 0);
    CHECK_EQ(observer_add_f64(observer, 3, 1.5), 0);
    CHECK_EQ(observer_set_f64(observer, 2, 0.5), 0);
    check_bytes(101, bytes, sizeof bytes);
    CHECK_EQ(get_u64(reader, 0), 3);
    CHECK_EQ(get_u64(reader, 1), 0x1122334455667788);
    CHECK_EQ(get_u64(reader, 3), 42);

    /* A caller's own store. */
    observer_slot_t slot;
    CHECK_EQ(observer_slot(observer, 0, &slot), 0);
    CHECK_EQ(slot.length, 4);
    CHECK_EQ(slot.type, OBSERVER_U32_LE);
    memcpy(slot.address, &(uint32_t){77}, 4);
    CHECK_EQ(get_u64(reader, 0), 77);

    /* Of what is not there, or not permitted, nothing is written. */
    observer_value_t value = {.type = 99};
    CHECK_ERROR(observer_set(observer, "none", 1), -ENOENT, "none");
    CHECK_ERROR(observer_set(observer, "", 1), -ENOENT, "field");
    CHECK_ERROR(observer_set(observer, "\xff", 1), -EILSEQ, "UTF-8");
    CHECK_ERROR(observer_set_u64(observer, 4, 1), -ENOENT, "4");
    CHECK_ERROR(observer_set_i64(observer, UINT32_MAX, 1), -ENOENT, "4");
    CHECK_ERROR(observer_set_f64(observer, 4, 1), -ENOENT, "4");
    CHECK_ERROR(observer_add_u64(observer, 4, 1), -ENOENT, "4");
    CHECK_ERROR(observer_add_i64(observer, 4, 1), -ENOENT, "4");
    CHECK_ERROR(observer_add_f64(observer, 4, 1), -ENOENT, "4");
    CHECK_ERROR(observer_get(observer, 4, &value), -ENOENT, "4");
    CHECK_ERROR(observer_slot(observer, 4, &slot), -ENOENT, "4");
    CHECK_EQ(value.type, 99);
    CHECK_ERROR(observer_set(reader, "requests_total", 1), -EACCES, "reading");
    CHECK_ERROR(observer_set_u64(reader, 3, 1), -EACCES, "reading");
    CHECK_ERROR(observer_set_i64(reader, 3, 1), -EACCES, "reading");
    CHECK_ERROR(observer_set_f64(reader, 3, 1), -EACCES, "reading");
    CHECK_ERROR(observer_add_u64(reader, 3, 1), -EACCES, "reading");
    CHECK_ERROR(observer_add_i64(reader, 3, 1), -EACCES, "reading");
    CHECK_ERROR(observer_add_f64(reader, 3, 1), -EACCES, "reading");
    CHECK_EQ(get_u64(reader, 3), 42);

    CHECK_EQ(observer_close(observer), 0);
    CHECK_EQ(observer_close(reader), 0);
    CHECK_EQ(unlink(path), 0);
}

static void values_that_do_not_fit(void)
{
    observer_schema_t *schema;
    CHECK_EQ(observer_schema_new(OBSERVER_PACKED, &schema), 0);
    CHECK_EQ(add_field(schema, "byte", OBSERVER_U8), 0);
    CHECK_EQ(add_field(schema, "short", OBSERVER_S16_BE), 1);
    CHECK_EQ(add_field(schema, "float", OBSERVER_F32_LE), 2);
    CHECK_EQ(add_field(schema, "double", OBSERVER_F64_BE), 3);
    put_zeros(100);
    observer_t *clamping = open_segment(schema, 3, 0), *refusing = open_segment(schema, 3, OBSERVER_REFUSE);

    CHECK_EQ(observer_set_u64(clamping, 0, 256), 0);
    CHECK_EQ(get_u64(clamping, 0), 255);
    CHECK_EQ(observer_add_u64(clamping, 0, UINT64_MAX), 0);
    CHECK_EQ(get_u64(clamping, 0), 255);
    CHECK_EQ(observer_add_i64(clamping, 0, INT64_MIN), 0);
    CHECK_EQ(get_u64(clamping, 0), 0);
    CHECK_EQ(observer_set_i64(clamping, 1, -40000), 0);
    observer_value_t value = get(clamping, 1);
    CHECK_EQ(value.type, OBSERVER_SIGNED);
    CHECK_EQ(value.number.as_i64, -32768);
    CHECK_EQ(observer_set(clamping, "short", 1e300), 0);
    CHECK_EQ(get(clamping, 1).number.as_i64, 32767);

    CHECK_ERROR(observer_set_u64(refusing, 0, 256), -ERANGE, "byte");
    CHECK_ERROR(observer_set_i64(refusing, 0, -1), -ERANGE, "U8");
    CHECK_ERROR(observer_set(refusing, "byte", 256), -ERANGE, "byte");
    CHECK_ERROR(observer_add_i64(refusing, 0, -1), -ERANGE, "byte");
    CHECK_ERROR(observer_add_u64(refusing, 1, 1), -ERANGE, "short");
    CHECK_ERROR(observer_add_f64(refusing, 1, 1), -ERANGE, "short");
    CHECK_ERROR(observer_set_f64(refusing, 2, 1e300), -ERANGE, "float");
    CHECK_EQ(get_u64(refusing, 0), 0);
    CHECK_EQ(get(refusing, 1).number.as_i64, 32767);
    CHECK_EQ(observer_set_u64(refusing, 0, 255), 0);
    CHECK_EQ(observer_set_f64(refusing, 2, INFINITY), 0);

    observer_t *both[] = {clamping, refusing};
    for (size_t i = 0; i < LEN(both); i++) {
        CHECK_ERROR(observer_set(both[i], "byte", NAN), -EDOM, "byte");
        CHECK_ERROR(observer_set_f64(both[i], 1, NAN), -EDOM, "short");
        CHECK_ERROR(observer_add_f64(both[i], 1, NAN), -EDOM, "short");
        CHECK_EQ(observer_set(both[i], "double", NAN), 0);
        value = get(both[i], 3);
        CHECK_EQ(value.type, OBSERVER_FLOAT);
        CHECK(isnan(value.number.as_f64));
    }
    static const uint8_t minus_zero[] = {0x80, 0, 0, 0, 0, 0, 0, 0};
    CHECK_EQ(observer_set(clamping, "double", -0.0), 0);
    check_bytes(3 + 7, minus_zero, sizeof minus_zero);
    CHECK_EQ(observer_close(clamping), 0);
    CHECK_EQ(observer_close(refusing), 0);
    CHECK_EQ(observer_schema_free(schema), 0);
    CHECK_EQ(unlink(path), 0);
}

static void store_errors(void)
{
    observer_store_t *nothing = (observer_store_t *)folder, *store = nothing;
    observer_store_options_t options = {.size = sizeof options};
    CHECK_ERROR(observer_store_open(path, NULL, &store), -ENOENT, path);
    put_zeros(4096);
    CHECK_ERROR(observer_store_open(path, NULL, &store), -ENOENT, sidecar); /* not a store of ours */
    CHECK_EQ(rename(path, sidecar), 0);
    CHECK_ERROR(observer_store_open(path, NULL, &store), -ENOENT, path);
    put_zeros(4096);
    CHECK_ERROR(observer_store_open(path, NULL, &store), -EPROTO, sidecar);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(unlink(sidecar), 0);
    options.segment_size = (1 << 20) + 1;
    CHECK_ERROR(observer_store_create(path, &options, &store), -EINVAL, "1 MiB");
    options.segment_size = 1;
    options.segments = 65537;
    CHECK_ERROR(observer_store_create(path, &options, &store), -EINVAL, "65536");
    CHECK(store == nothing && access(path, F_OK) < 0);

    store = new_store(8);
    options = (observer_store_options_t){.size = sizeof options, .flags = OBSERVER_READ_ONLY};
    observer_store_t *reader;
    CHECK_EQ(observer_store_open(path, &options, &reader), 0);
    observer_schema_t *schema = a_schema(OBSERVER_PACKED), *long_schema = a_schema(OBSERVER_PACKED), *none = schema;
    for (char name[16] = "f0"; name[1] < '0' + 62; name[1]++)
        CHECK(add_field(long_schema, name, OBSERVER_U64_LE) > 0);
    observer_worker_t worker = {.size = sizeof worker, .pid = 77};
    observer_value_t value;
    CHECK_ERROR(observer_store_allocate(store, long_schema, "web", 0), -EINVAL, "512");
    CHECK_ERROR(observer_store_allocate(store, schema, "\xff", 0), -EILSEQ, "UTF-8");
    CHECK_ERROR(observer_store_allocate(store, schema, "web", UINT32_MAX), -ESRCH, "4294967295");
    CHECK_ERROR(observer_store_allocate(reader, schema, "web", 0), -EACCES, "reading");
    CHECK_ERROR(observer_store_next(store, -1), -ENOENT, "segment");
    CHECK_ERROR(observer_store_next(store, INT32_MIN), -ENOENT, "segment");
    CHECK_ERROR(observer_store_next(store, INT32_MAX), -ENOENT, "segment");
    CHECK_ERROR(observer_store_free(store, 0), -ENOENT, "0 of 8");
    CHECK_ERROR(observer_store_describe(store, 7, schema, "web", 0), -ENOENT, "7 of 8");
    CHECK_ERROR(observer_store_worker(store, UINT32_MAX, &worker), -ENOENT, "4294967295 of 8");
    CHECK_EQ(worker.pid, 77);
    CHECK_ERROR(observer_store_schema(store, 8, &none), -ENOENT, "8 of 8");
    CHECK(none == schema);
    CHECK_ERROR(observer_store_read(store, 8, &value, 1), -ENOENT, "8 of 8");
    CHECK_EQ(observer_store_allocate(store, NULL, NULL, 0), 0);
    CHECK_ERROR(observer_store_read(store, 0, &value, 1), -ENODATA, "nobody");
    CHECK_ERROR(observer_store_schema(store, 0, &none), -ENODATA, "nobody");
    CHECK_ERROR(observer_store_describe(store, 0, long_schema, "web", 0), -EINVAL, "512");
    CHECK_ERROR(observer_store_describe(reader, 0, schema, "web", 0), -EACCES, "reading");
    CHECK_ERROR(observer_store_free(reader, 0), -EACCES, "reading");
    CHECK_ERROR(observer_store_reap(reader), -EACCES, "reading");
    CHECK_ERROR(observer_store_grow(reader, 100), -EACCES, "reading");
    CHECK_EQ(observer_schema_free(schema), 0);
    CHECK_EQ(observer_schema_free(long_schema), 0);
    CHECK_EQ(observer_store_close(reader), 0);
    remove_store(store);
}

static void segments_of_a_store(void)
{
    char long_service[301] = "";
    struct stat file;
    memset(long_service, 's', 300);
    observer_store_t *store = new_store(8);
    CHECK_EQ(stat(path, &file), 0);
    CHECK_EQ(file.st_mode & 07777, 0600);
    CHECK_EQ(file.st_size, 4096);
    CHECK_EQ(observer_store_segment_size(store), 512);
    CHECK_EQ(observer_store_count(store), 8);
    observer_schema_t *schema = a_schema(OBSERVER_PACKED), *copy;
    observer_store_t *readers[] = {open_store(OBSERVER_READ_ONLY), open_store(OBSERVER_READ_ONLY | OBSERVER_CHECKED),
                                   open_store(OBSERVER_CHECKED)};
    for (int i = 0; i < 20; i++) { /* it grows on the way */
        CHECK_EQ(observer_store_allocate(store, schema, i % 2 ? "jobs" : "web", 0), i);
        observer_t *observer = open_segment(schema, (uint64_t)i * 512, 0);
        CHECK_EQ(observer_set(observer, "requests_total", 100 + i), 0);
        CHECK_EQ(observer_close(observer), 0);
    }
    for (size_t r = 0; r < LEN(readers); r++) {
        observer_worker_t worker = {.size = sizeof worker};
        observer_value_t values[64] = {0}, sum;
        int32_t counts[32] = {0}, seen = 0;
        CHECK_EQ(observer_store_count(readers[r]), 32);
        for (int32_t at = -1; (at = observer_store_next(readers[r], at)) >= 0; seen++) {
            CHECK_EQ(at, seen);
            CHECK_EQ(observer_store_worker(readers[r], (uint32_t)at, &worker), 0);
            CHECK_EQ(worker.pid, getpid());
            CHECK_EQ(worker.state, OBSERVER_ALIVE);
            CHECK_EQ(worker.offset, 512 * at);
            CHECK_EQ(worker.fields, 4);
            CHECK(worker.since_ns / 1000000000 >= time(NULL) - 60 && worker.since_ns / 1000000000 <= time(NULL));
            CHECK(strcmp(worker.service, at % 2 ? "jobs" : "web") == 0);
            CHECK_EQ(observer_store_read(readers[r], (uint32_t)at, values, 3), 4);
            CHECK_EQ(values[3].number.as_u64, 0); /* beyond cap */
            CHECK_EQ(observer_store_read(readers[r], (uint32_t)at, values, 4), 4);
            CHECK_EQ(values[3].number.as_u64, 100 + at);
            CHECK_EQ(values[3].type, OBSERVER_UNSIGNED);
            values[3].number.as_u64 = 0;
        }
        CHECK_EQ(seen, 20);
        CHECK_EQ(observer_store_read_many(readers[r], 16, 100, values, 2, counts), 16);
        CHECK_EQ(observer_store_read_many(readers[r], 16, 16, values, 4, counts), 16);
        for (uint64_t i = 0; i < 16; i++) {
            CHECK_EQ(counts[i], i < 4 ? 4 : -ENOENT);
            if (i < 4) CHECK_EQ(values[4 * i + 3].number.as_u64, 116 + i);
        }
        CHECK_EQ(observer_store_read_many(readers[r], 32, 1, values, 4, counts), 0);
        CHECK_EQ(observer_store_sum(readers[r], NULL, "requests_total", &sum), 20);
        CHECK_EQ(sum.number.as_u64, 20 * 100 + 190);
        CHECK_EQ(observer_store_sum(readers[r], "jobs", "requests_total", &sum), 10);
        CHECK_EQ(sum.number.as_u64, 10 * 100 + 100);
        CHECK_EQ(observer_store_sum(readers[r], "none", "requests_total", &sum), 0);
        CHECK_EQ(sum.number.as_u64, 0);
        CHECK_EQ(observer_store_schema(readers[r], 5, &copy), 0);
        CHECK_EQ(observer_schema_count(copy), 4);
        CHECK_EQ(observer_schema_index(copy, "requests_total"), 3);
        CHECK_EQ(observer_schema_free(copy), 0);
    }

    observer_worker_t worker = {.size = sizeof worker};
    CHECK_EQ(observer_store_describe(store, 3, schema, long_service, 0), 0);
    CHECK_EQ(observer_store_worker(readers[1], 3, &worker), 0);
    CHECK_EQ(strlen(worker.service), 127);
    CHECK_EQ(observer_store_free(store, 3), 0);
    CHECK_ERROR(observer_store_worker(readers[0], 3, &worker), -ENOENT, "3 of 32");
    CHECK_EQ(observer_store_next(readers[2], 2), 4);
    CHECK_EQ(observer_store_grow(store, 8), 32);
    CHECK_EQ(observer_store_grow(store, 40), 40);
    CHECK_EQ(observer_store_count(readers[0]), 40);

    /* Made anew: who has it open keeps the old one until it asks for the new one. */
    observer_store_t *anew = new_store(8);
    for (size_t r = 0; r < LEN(readers); r++) {
        CHECK_EQ(observer_store_count(readers[r]), 40);
        CHECK_EQ(observer_store_reopen(readers[r]), 0);
        CHECK_EQ(observer_store_count(readers[r]), 8);
        CHECK_EQ(observer_store_next(readers[r], -1), -ENOENT);
        CHECK_EQ(observer_store_close(readers[r]), 0);
    }
    CHECK_EQ(observer_store_close(anew), 0);
    CHECK_EQ(observer_schema_free(schema), 0);
    remove_store(store);
}

static void workers_that_end(void)
{
    observer_store_t *store = new_store(8);
    observer_schema_t *schema = a_schema(OBSERVER_PACKED);
    observer_worker_t worker = {.size = sizeof worker};
    observer_value_t values[4];
    CHECK_EQ(observer_store_allocate(store, schema, "own", 0), 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        for (;;) pause();
    CHECK_EQ(observer_store_allocate(store, schema, "web", (uint32_t)child), 1);
    observer_t *observer = open_segment(schema, 512, 0);
    CHECK_EQ(observer_set_u64(observer, 3, 9), 0);
    CHECK_EQ(observer_store_worker(store, 1, &worker), 0);
    CHECK_EQ(worker.state, OBSERVER_ALIVE);
    CHECK_EQ(worker.pid, child);
    CHECK_EQ(observer_store_reap(store), 0);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    CHECK_EQ(observer_store_worker(store, 1, &worker), 0);
    CHECK_EQ(worker.state, OBSERVER_DEAD);
    CHECK_EQ(observer_store_read(store, 1, values, 4), 4);
    CHECK_EQ(values[3].number.as_u64, 9);
    CHECK_EQ(observer_store_reap(store), 1);
    CHECK_ERROR(observer_store_read(store, 1, values, 4), -ENOENT, "1 of 8");
    CHECK_EQ(get_u64(observer, 3), 0);
    CHECK_EQ(observer_close(observer), 0);
    CHECK_EQ(observer_schema_free(schema), 0);
    remove_store(store);
}

static void text_for_prometheus(void)
{
    static const char *first_lines[] = {
        "# HELP connections_active connections active\n# TYPE connections_active untyped\n",
        "# HELP connections_active connections active\n# TYPE connections_active unknown\n",
    };
    observer_store_t *store = new_store(8);
    observer_schema_t *schema = a_schema(OBSERVER_PACKED);
    CHECK_EQ(observer_store_allocate(store, schema, "web", 0), 0);
    for (uint32_t format = OBSERVER_PROMETHEUS; format <= OBSERVER_OPENMETRICS; format++) {
        char text[4096], part[11];
        int32_t length = observer_store_exposition(store, format, NULL, 0);
        CHECK_EQ(observer_store_exposition(store, format, text, sizeof text), length);
        CHECK_EQ(strlen(text), length);
        CHECK(strncmp(text, first_lines[format], strlen(first_lines[format])) == 0);
        CHECK(strstr(text, "\nrequests_total{service=\"web\",pid=\""));
        CHECK((strcmp(text + length - 6, "# EOF\n") == 0) == (format == OBSERVER_OPENMETRICS));
        memset(part, 'x', sizeof part);
        CHECK_EQ(observer_store_exposition(store, format, part, 10), length);
        CHECK(strncmp(part, text, 9) == 0 && part[9] == '\0' && part[10] == 'x');
        CHECK_EQ(observer_store_exposition(store, format, part, 1), length);
        CHECK(part[0] == '\0');
    }
    CHECK_EQ(observer_schema_free(schema), 0);
    remove_store(store);
}

/* A checked reader goes on where a mapped one would be killed. */
static void files_that_are_cut(void)
{
    observer_store_t *store = new_store(8);
    observer_schema_t *schema = a_schema(OBSERVER_PACKED), *copy;
    observer_worker_t worker = {.size = sizeof worker};
    observer_value_t values[4];
    int32_t counts[1];
    char text[64];
    CHECK_EQ(observer_store_allocate(store, schema, "web", 0), 0);
    CHECK_EQ(observer_store_close(store), 0);
    store = open_store(OBSERVER_CHECKED);
    CHECK_EQ(observer_store_read(store, 0, values, 4), 4);
    CHECK_EQ(truncate(path, 20), 0);
    CHECK_ERROR(observer_store_read(store, 0, values, 4), -EPROTO, "cut");
    CHECK_EQ(truncate(path, 4096), 0);
    CHECK_EQ(observer_store_read(store, 0, values, 4), 4);
    CHECK_EQ(truncate(sidecar, 4096), 0);
    CHECK_ERROR(observer_store_worker(store, 0, &worker), -EPROTO, "damaged");
    CHECK_ERROR(observer_store_schema(store, 0, &copy), -EPROTO, "damaged");
    CHECK_ERROR(observer_store_read(store, 0, values, 4), -EPROTO, "damaged");
    CHECK_ERROR(observer_store_reopen(store), -EPROTO, sidecar);
    CHECK(observer_store_exposition(store, OBSERVER_PROMETHEUS, text, sizeof text) > 0);
    CHECK(observer_store_read_many(store, 0, 1, values, 4, counts) >= 0);
    CHECK_EQ(observer_schema_free(schema), 0);
    remove_store(store);
}

static void after_fork(void)
{
    int status;
    char text[16];
    int32_t counts[1];
    observer_store_t *store = new_store(8);
    observer_schema_t *schema = a_schema(OBSERVER_PACKED), *copy;
    observer_worker_t worker = {.size = sizeof worker};
    observer_value_t value;
    CHECK_EQ(observer_store_allocate(store, schema, "web", 0), 0);
    observer_t *observer = open_segment(schema, 0, 0);
    CHECK_EQ(observer_set_u64(observer, 3, 5), 0);
    fflush(stdout);

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        current_test = "after_fork, in the child";
        CHECK_ERROR(observer_set(observer, "requests_total", 6), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_set_u64(observer, 3, 6), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_set_i64(observer, 3, 6), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_set_f64(observer, 3, 6), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_add_u64(observer, 3, 6), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_add_i64(observer, 3, 6), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_add_f64(observer, 3, 6), SHMHOT_EFORK, "fork");
        CHECK_EQ(get_u64(observer, 3), 5);
        CHECK_EQ(observer_index(observer, "requests_total"), 3);
        CHECK_ERROR(observer_store_reopen(store), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_segment_size(store), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_count(store), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_allocate(store, schema, "", 0), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_describe(store, 0, schema, "", 0), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_grow(store, 100), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_free(store, 0), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_reap(store), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_next(store, -1), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_worker(store, 0, &worker), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_schema(store, 0, &copy), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_read(store, 0, &value, 1), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_read_many(store, 0, 1, &value, 1, counts), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_sum(store, NULL, "n", &value), SHMHOT_EFORK, "fork");
        CHECK_ERROR(observer_store_exposition(store, 0, text, sizeof text), SHMHOT_EFORK, "fork");
        CHECK_EQ(observer_store_close(store), 0);
        CHECK_EQ(observer_close(observer), 0);

        /* One of its own. */
        store = open_store(0);
        int32_t segment = observer_store_allocate(store, schema, "child", 0);
        CHECK_EQ(segment, 1);
        observer = open_segment(schema, 512, 0);
        CHECK_EQ(observer_set_u64(observer, 3, 7), 0);
        CHECK_EQ(observer_close(observer), 0);
        CHECK_EQ(observer_store_close(store), 0);
        CHECK_EQ(observer_schema_free(schema), 0);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(observer_add_u64(observer, 3, 1), 0);
    CHECK_EQ(observer_store_sum(store, "web", "requests_total", &value), 1);
    CHECK_EQ(value.number.as_u64, 6);
    CHECK_EQ(observer_store_sum(store, "child", "requests_total", &value), 1);
    CHECK_EQ(value.number.as_u64, 7);
    CHECK_EQ(observer_close(observer), 0);
    CHECK_EQ(observer_schema_free(schema), 0);
    remove_store(store);
}

#define THREADS 4
#define ADDS 20000

typedef struct {
    const observer_schema_t *schema;
    const observer_t *observer;
    const observer_store_t *store;
} shared_t;

static void *use_const_handles(void *argument)
{
    const shared_t *shared = argument;
    for (int i = 0; i < ADDS; i++) {
        CHECK_EQ(observer_add_u64(shared->observer, 3, 1), 0);
        CHECK_EQ(observer_set(shared->observer, "requests_active", 7), 0);
        CHECK_EQ(observer_schema_index(shared->schema, "requests_total"), 3);
        if (i % 100 == 0) {
            int32_t segment = observer_store_allocate(shared->store, shared->schema, "thread", 0);
            observer_value_t values[4];
            CHECK(segment > 0);
            CHECK_EQ(observer_store_read(shared->store, (uint32_t)segment, values, 4), 4);
            CHECK_EQ(observer_store_free(shared->store, (uint32_t)segment), 0);
            CHECK_EQ(observer_store_read(shared->store, 0, values, 4), 4);
        }
    }
    return NULL;
}

static void threads_on_one_handle(void)
{
    for (uint32_t layout = OBSERVER_PACKED; layout <= OBSERVER_ALIGNED; layout++) {
        pthread_t threads[THREADS];
        observer_store_t *store = new_store(8);
        observer_schema_t *schema = a_schema(layout);
        CHECK_EQ(observer_store_allocate(store, schema, "web", 0), 0);
        observer_t *observer = open_segment(schema, 0, 0);
        shared_t shared = {schema, observer, store};
        for (size_t i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, use_const_handles, &shared), 0);
        for (size_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK_EQ(get_u64(observer, 3), THREADS * ADDS);
        CHECK_EQ(observer_store_next(store, 0), -ENOENT);
        CHECK_EQ(observer_close(observer), 0);
        CHECK_EQ(observer_schema_free(schema), 0);
        remove_store(store);
    }
}

int main(void)
{
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/metrics.shm", folder);
    snprintf(sidecar, sizeof sidecar, "%s.sidecar", path);
    RUN(types);
    RUN(schemas);
    RUN(fields_that_cannot_be);
    RUN(sizes_of_structs);
    RUN(null_arguments);
    RUN(open_errors);
    RUN(fields_of_a_segment);
    RUN(values_that_do_not_fit);
    RUN(store_errors);
    RUN(segments_of_a_store);
    RUN(workers_that_end);
    RUN(text_for_prometheus);
    RUN(files_that_are_cut);
    RUN(after_fork);
    RUN(threads_on_one_handle);
    CHECK_EQ(rmdir(folder), 0);
    return 0;
}
