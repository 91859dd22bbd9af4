// The few functions of Python's stable ABI that the plugin needs, found in the running process.
//
// The plugin does not link against libpython: one binary serves every Python from 3.12 on, loads into a host that has
// no Python at all, and then can say so.
#pragma once

#include <cstdint>
#include <string>

namespace duovsr::python {

struct Object;  // a PyObject, opaque here

// Functions by their names in Python's C API, without the Py prefix. Py_ssize_t is intptr_t, PyGILState_STATE an int.
struct Functions {
    int (*IsInitialized)();
    int (*GILState_Ensure)();
    void (*GILState_Release)(int);
    Object *(*Import_ImportModule)(const char *);
    Object *(*Object_GetAttrString)(Object *, const char *);
    Object *(*Object_CallObject)(Object *, Object *);
    Object *(*Object_Str)(Object *);
    Object *(*Tuple_New)(intptr_t);
    int (*Tuple_SetItem)(Object *, intptr_t, Object *);  // takes over the reference to the item
    Object *(*Tuple_GetItem)(Object *, intptr_t);        // a borrowed reference
    intptr_t (*Tuple_Size)(Object *);
    Object *(*Dict_New)();
    int (*Dict_SetItemString)(Object *, const char *, Object *);
    Object *(*Unicode_FromString)(const char *);
    const char *(*Unicode_AsUTF8AndSize)(Object *, intptr_t *);
    Object *(*Long_FromLongLong)(long long);
    long long (*Long_AsLongLong)(Object *);
    Object *(*Bool_FromLong)(long);
    Object *(*Float_FromDouble)(double);
    Object *(*Err_GetRaisedException)();  // Python 3.12 and later
    void (*Err_Clear)();
    void (*IncRef)(Object *);
    void (*DecRef)(Object *);
};

// The functions of the interpreter that runs in this process; throws Error when there is none.
const Functions &functions();

// True while Python objects may be touched: false without Python and after it has shut down.
bool running() noexcept;

// Holds the GIL for its lifetime. Must never be made while one of the plugin's own locks is held.
class Gil {
public:
    explicit Gil(const Functions &py) : py(py), state(py.GILState_Ensure()) {}
    ~Gil() { py.GILState_Release(state); }
    Gil(const Gil &) = delete;
    Gil &operator=(const Gil &) = delete;

private:
    const Functions &py;
    int state;
};

// Owns one reference; lives and dies under the GIL.
class Ref {
public:
    Ref(const Functions &py, Object *object) : py(py), object(object) {}
    ~Ref() { if (object) py.DecRef(object); }
    Ref(const Ref &) = delete;
    Ref &operator=(const Ref &) = delete;
    Object *get() const { return object; }
    Object *release() { Object *given = object; object = nullptr; return given; }
    explicit operator bool() const { return object != nullptr; }

private:
    const Functions &py;
    Object *object;
};

// Takes the pending Python exception away and returns its text. Under the GIL.
std::string takeError(const Functions &py);

// The text of a Python string; throws Error for anything else. Under the GIL.
std::string text(const Functions &py, Object *object);

}  // namespace duovsr::python
