#include "python.h"

#include <mutex>

#include "error.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define PSAPI_VERSION 2  // EnumProcessModules from kernel32, no further library
#include <windows.h>

#include <psapi.h>

#include <vector>
#else
#include <dlfcn.h>
#endif

namespace duovsr::python {

namespace {

#ifdef _WIN32
// Untried. Windows has no search over all modules: ask each one. Only pythonXY.dll and python3.dll export the names.
void *findSymbol(const char *name) {
    DWORD bytes = 0;
    if (!EnumProcessModules(GetCurrentProcess(), nullptr, 0, &bytes))
        return nullptr;
    std::vector<HMODULE> modules(bytes / sizeof(HMODULE) + 16);  // a few may be loaded between the two calls
    const DWORD room = static_cast<DWORD>(modules.size() * sizeof(HMODULE));
    if (!EnumProcessModules(GetCurrentProcess(), modules.data(), room, &bytes))
        return nullptr;
    for (size_t i = 0; i < modules.size() && i < bytes / sizeof(HMODULE); i++) {
        if (FARPROC found = GetProcAddress(modules[i], name))
            return reinterpret_cast<void *>(found);
    }
    return nullptr;
}
#else
// Tried on Linux: python itself, libpython loaded by vspipe and by VSScript hosts. macOS has the same call: untried.
void *findSymbol(const char *name) { return dlsym(RTLD_DEFAULT, name); }
#endif

template <typename Function>
bool find(const char *name, Function *&target) {
    target = reinterpret_cast<Function *>(findSymbol(name));
    return target != nullptr;
}

bool findAll(Functions &py) {
    return find("Py_IsInitialized", py.IsInitialized) && find("PyGILState_Ensure", py.GILState_Ensure) &&
           find("PyGILState_Release", py.GILState_Release) &&
           find("PyImport_ImportModule", py.Import_ImportModule) &&
           find("PyObject_GetAttrString", py.Object_GetAttrString) &&
           find("PyObject_CallObject", py.Object_CallObject) && find("PyObject_Str", py.Object_Str) &&
           find("PyTuple_New", py.Tuple_New) && find("PyTuple_SetItem", py.Tuple_SetItem) &&
           find("PyTuple_GetItem", py.Tuple_GetItem) && find("PyTuple_Size", py.Tuple_Size) &&
           find("PyDict_New", py.Dict_New) && find("PyDict_SetItemString", py.Dict_SetItemString) &&
           find("PyUnicode_FromString", py.Unicode_FromString) &&
           find("PyUnicode_AsUTF8AndSize", py.Unicode_AsUTF8AndSize) &&
           find("PyLong_FromLongLong", py.Long_FromLongLong) && find("PyLong_AsLongLong", py.Long_AsLongLong) &&
           find("PyBool_FromLong", py.Bool_FromLong) && find("PyFloat_FromDouble", py.Float_FromDouble) &&
           find("PyErr_GetRaisedException", py.Err_GetRaisedException) && find("PyErr_Clear", py.Err_Clear) &&
           find("Py_IncRef", py.IncRef) && find("Py_DecRef", py.DecRef);
}

// Searched again until found, because a host may load Python after the plugin; null when there is none yet.
const Functions *loaded() {
    static std::mutex lock;
    static Functions found;
    static bool complete = false;
    const std::lock_guard<std::mutex> guard(lock);
    if (!complete)
        complete = findAll(found);
    return complete ? &found : nullptr;
}

}  // namespace

const Functions &functions() {
    const Functions *py = loaded();
    if (!py || !py->IsInitialized())
        throw Error("no running Python interpreter in this process; duovsr needs a host that runs Python 3.12 or "
                    "later, such as vspipe or python itself");
    return *py;
}

bool running() noexcept {
    const Functions *py = loaded();
    return py && py->IsInitialized();
}

std::string takeError(const Functions &py) {
    const Ref exception(py, py.Err_GetRaisedException());
    if (!exception)
        return "an unknown error in Python";
    const Ref sentence(py, py.Object_Str(exception.get()));
    if (!sentence) {
        py.Err_Clear();
        return "an error in Python that cannot be printed";
    }
    return text(py, sentence.get());
}

std::string text(const Functions &py, Object *object) {
    intptr_t length = 0;
    const char *characters = object ? py.Unicode_AsUTF8AndSize(object, &length) : nullptr;
    if (!characters) {
        py.Err_Clear();
        throw Error("duovsr's Python part gave something that is not text; reinstall duovsr");
    }
    return std::string(characters, static_cast<size_t>(length));
}

}  // namespace duovsr::python
