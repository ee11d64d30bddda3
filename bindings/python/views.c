/* What a reader of a stream does most often, without cffi: the call itself takes 35 ns, and its way through cffi and
 * Python 500 more. docs/decisions/0010-python.md. */
#include <Python.h>
#include <shmhot.h>
#include <stddef.h>
#include <structmember.h>

/* A ring and who reads it. The owner keeps the memory of the one and the handle of the other. */
typedef struct {
    PyObject_HEAD
    PyObject *owner, *frames, *view_type, *chunk_type;
    const circbuf_mirror_t *mirror;
    const double *times; /* NULL when the layout has none */
    unsigned long long number;
    unsigned int noticed;
} Source;

/* Frames that were read. */
typedef struct {
    PyObject_HEAD
    PyObject *source, *frames, *stamps;
    unsigned long long first, lost;
    Py_ssize_t count, index, upper;
    unsigned int metadata_generation;
} Part;

static PyObject *copy_name;

static void release(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(self);
    Py_DECREF(type);
}

static void source_dealloc(PyObject *object)
{
    Source *self = (Source *)object;
    Py_XDECREF(self->owner);
    Py_XDECREF(self->frames);
    Py_XDECREF(self->view_type);
    Py_XDECREF(self->chunk_type);
    release(object);
}

static void part_dealloc(PyObject *object)
{
    Part *self = (Part *)object;
    Py_XDECREF(self->source);
    Py_XDECREF(self->frames);
    Py_XDECREF(self->stamps);
    release(object);
}

/* Source(owner, mirror, number, frames, times, view_type, chunk_type): mirror and times are addresses. */
static PyObject *source_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *owner, *mirror, *frames, *times, *view_type, *chunk_type;
    unsigned long long number;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOKOOOO", &owner, &mirror, &number, &frames, &times, &view_type, &chunk_type))
        return NULL;
    Source *self = (Source *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    self->mirror = PyLong_AsVoidPtr(mirror);
    self->times = PyLong_AsVoidPtr(times);
    self->number = number;
    Py_INCREF(self->owner = owner);
    Py_INCREF(self->frames = frames);
    Py_INCREF(self->view_type = view_type);
    Py_INCREF(self->chunk_type = chunk_type);
    if (PyErr_Occurred())
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyObject *slice_of(Py_ssize_t begin, Py_ssize_t count)
{
    PyObject *from = PyLong_FromSsize_t(begin), *to = PyLong_FromSsize_t(begin + count), *slice = NULL;
    if (from && to)
        slice = PySlice_New(from, to, NULL);
    Py_XDECREF(from);
    Py_XDECREF(to);
    return slice;
}

static PyObject *none(void)
{
    Py_INCREF(Py_None);
    return Py_None;
}

/* What has to be looked at: a status and what there is, or None. */
static PyObject *odd(int32_t status, PyObject *part)
{
    return Py_BuildValue("iN", (int)status, part);
}

/* The frames that come next, n at most, None for all, as a view of this type. */
static int32_t next_part(Source *self, PyObject *n, PyObject *type, Part **found)
{
    unsigned long limit = INT32_MAX;
    if (n != Py_None) {
        PyObject *index = PyNumber_Index(n); /* numpy's integers are none of Python's */
        if (!index)
            return 0;
        limit = PyLong_AsUnsignedLong(index);
        Py_DECREF(index);
        if (PyErr_Occurred())
            return 0;
        if (limit > INT32_MAX)
            limit = INT32_MAX;
    }
    circbuf_view_t view = {.size = sizeof view};
    int32_t status = circbuf_mirror_view(self->mirror, (uint32_t)limit, &view);
    if (status < 0)
        return status;
    Part *part = (Part *)PyType_GenericAlloc((PyTypeObject *)type, 0);
    if (!part)
        return 0;
    Py_INCREF(part->source = (PyObject *)self);
    part->first = view.first;
    part->lost = view.lost;
    part->metadata_generation = view.metadata_generation;
    if (view.ring != self->number) {
        /* Another thread has gone on to another ring, and this one does not know yet what its frames are. */
        part->lost += view.count;
    } else {
        part->count = (Py_ssize_t)view.count;
        part->index = (Py_ssize_t)view.index;
        part->upper = (Py_ssize_t)view.counts[0];
    }
    if (part->upper == part->count) {
        PyObject *slice = slice_of(part->index, part->count);
        part->frames = slice ? PyObject_GetItem(self->frames, slice) : NULL;
        Py_XDECREF(slice);
        if (!part->frames)
            Py_CLEAR(part);
    }
    *found = part;
    return 0;
}

static PyObject *source_view(PyObject *object, PyObject *n)
{
    Source *self = (Source *)object;
    Part *part = NULL;
    int32_t status = next_part(self, n, self->view_type, &part);
    if (status < 0)
        return odd(status, none());
    if (part && part->metadata_generation != self->noticed)
        return odd(0, (PyObject *)part);
    return (PyObject *)part;
}

static int32_t is_intact(const Source *self, unsigned long long first)
{
    circbuf_view_t view = {.size = sizeof view, .first = first, .ring = self->number};
    return circbuf_mirror_view_is_intact(self->mirror, &view);
}

static PyObject *source_is_intact(PyObject *self, PyObject *first)
{
    unsigned long long number = PyLong_AsUnsignedLongLong(first);
    if (PyErr_Occurred())
        return NULL;
    return PyLong_FromLong(is_intact((Source *)self, number));
}

static PyObject *source_read(PyObject *object, PyObject *n)
{
    Source *self = (Source *)object;
    Part *part = NULL;
    int32_t status = next_part(self, n, self->chunk_type, &part);
    if (status < 0)
        return odd(status, none());
    if (part && part->frames && self->times) {
        /* An array of the times is made when it is asked for. */
        const char *times = (const char *)(self->times + part->index);
        PyObject *stamps = PyByteArray_FromStringAndSize(times, part->count * (Py_ssize_t)sizeof *self->times);
        PyObject *frames = stamps ? PyObject_CallMethodObjArgs(part->frames, copy_name, NULL) : NULL;
        if (!frames) {
            Py_XDECREF(stamps);
            Py_CLEAR(part);
        } else if (part->count == 0 || is_intact(self, part->first) == 1) {
            Py_DECREF(part->frames);
            part->frames = frames;
            part->stamps = stamps;
        } else {
            Py_DECREF(frames);
            Py_DECREF(stamps);
        }
    }
    if (part && (!part->stamps || part->metadata_generation != self->noticed))
        return odd(0, (PyObject *)part);
    return (PyObject *)part;
}

static PyMethodDef source_methods[] = {
    /* Or, if there is something that Python has to look at, a status and it: a failure and None; new metadata. */
    {"view", source_view, METH_O, "the next n frames, as a View"},
    /* As that; also a Chunk without stamps, and a view still: in two parts, without timestamps, or overwritten meanwhile. */
    {"read", source_read, METH_O, "copies of the next n frames and of their times, as a Chunk"},
    {"is_intact", source_is_intact, METH_O, "the status of whether frames are whole, from this number on"},
    {0},
};
static PyMemberDef source_members[] = {
    {"number", T_ULONGLONG, offsetof(Source, number), READONLY, "of the ring"},
    {"frames", T_OBJECT, offsetof(Source, frames), READONLY, "of the ring"},
    {"owner", T_OBJECT, offsetof(Source, owner), READONLY, "what was given"},
    {"noticed", T_UINT, offsetof(Source, noticed), 0, "generation of the metadata that is known"},
    {0},
};
static PyType_Slot source_slots[] = {
    {Py_tp_new, source_new},
    {Py_tp_dealloc, source_dealloc},
    {Py_tp_methods, source_methods},
    {Py_tp_members, source_members},
    {0},
};
static PyType_Spec source_spec = {"shmhot._views.Source", sizeof(Source), 0, Py_TPFLAGS_DEFAULT, source_slots};

static PyMemberDef part_members[] = {
    {"source", T_OBJECT, offsetof(Part, source), READONLY, 0},
    {"frames", T_OBJECT_EX, offsetof(Part, frames), 0, 0},
    {"stamps", T_OBJECT, offsetof(Part, stamps), 0, "times as an array, or as bytes"},
    {"first", T_ULONGLONG, offsetof(Part, first), 0, 0},
    {"lost", T_ULONGLONG, offsetof(Part, lost), 0, 0},
    {"count", T_PYSSIZET, offsetof(Part, count), 0, "of both parts"},
    {"index", T_PYSSIZET, offsetof(Part, index), 0, "of the first in the ring"},
    {"upper", T_PYSSIZET, offsetof(Part, upper), 0, "how many lie before the end of the ring"},
    {"metadata_generation", T_UINT, offsetof(Part, metadata_generation), 0, 0},
    {0},
};
static PyType_Slot part_slots[] = {
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, part_dealloc},
    {Py_tp_members, part_members},
    {0},
};
static PyType_Spec part_spec = {
    "shmhot._views.Part", sizeof(Part), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, part_slots,
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_views", .m_size = -1};

PyMODINIT_FUNC PyInit__views(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (!module)
        return NULL;
    copy_name = PyUnicode_InternFromString("copy");
    PyObject *source = PyType_FromSpec(&source_spec), *part = PyType_FromSpec(&part_spec);
    if (!copy_name || !source || PyModule_AddObject(module, "Source", source) < 0 || !part ||
        PyModule_AddObject(module, "Part", part) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
