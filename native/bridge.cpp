#include "bridge.h"

#include "error.h"

namespace duovsr::bridge {

namespace {

using python::Functions;
using python::Gil;
using python::Object;
using python::Ref;

constexpr const char *MODULE = "duovsr_vs.filter";

Object *convert(const Functions &py, const Setting &value) {
    if (const bool *flag = std::get_if<bool>(&value))
        return py.Bool_FromLong(*flag);
    if (const int64_t *number = std::get_if<int64_t>(&value))
        return py.Long_FromLongLong(*number);
    if (const double *number = std::get_if<double>(&value))
        return py.Float_FromDouble(*number);
    return py.Unicode_FromString(std::get<std::string>(value).c_str());
}

Object *checked(const Functions &py, Object *made) {
    if (!made)
        throw Error(python::takeError(py));
    return made;
}

Object *convert(const Functions &py, const Settings &settings) {
    Ref dictionary(py, checked(py, py.Dict_New()));
    for (const auto &[name, value] : settings) {
        const Ref converted(py, checked(py, convert(py, value)));
        if (py.Dict_SetItemString(dictionary.get(), name, converted.get()))
            throw Error(python::takeError(py));
    }
    return dictionary.release();
}

// A tuple of six numbers per frame: address and stride of each plane.
Object *convert(const Functions &py, const std::vector<Planes> &frames) {
    Ref tuple(py, checked(py, py.Tuple_New(static_cast<intptr_t>(frames.size() * 6))));
    intptr_t next = 0;
    for (const Planes &planes : frames) {
        for (const Plane &plane : planes) {
            const auto address = static_cast<long long>(reinterpret_cast<intptr_t>(plane.data));
            py.Tuple_SetItem(tuple.get(), next++, checked(py, py.Long_FromLongLong(address)));
            py.Tuple_SetItem(tuple.get(), next++, checked(py, py.Long_FromLongLong(plane.stride)));
        }
    }
    return tuple.release();
}

Object *convert(const Functions &py, const std::vector<bool> &flags) {
    Ref tuple(py, checked(py, py.Tuple_New(static_cast<intptr_t>(flags.size()))));
    for (size_t i = 0; i < flags.size(); i++)
        py.Tuple_SetItem(tuple.get(), static_cast<intptr_t>(i), checked(py, py.Bool_FromLong(flags[i])));
    return tuple.release();
}

template <size_t count>
Object *pack(const Functions &py, const std::array<Object *, count> &items) {
    Ref tuple(py, checked(py, py.Tuple_New(count)));
    for (size_t i = 0; i < count; i++)
        py.Tuple_SetItem(tuple.get(), static_cast<intptr_t>(i), items[i]);
    return tuple.release();
}

// Calls a function of the Python half. It returns a tuple that begins with an error's text, empty when all went well.
Object *call(const Functions &py, const char *name, Object *arguments) {
    const Ref given(py, arguments);
    const Ref module(py, py.Import_ImportModule(MODULE));
    if (!module)
        throw Error("cannot import duovsr_vs: " + python::takeError(py) +
                    "; install duovsr into the Python that runs this script");
    const Ref function(py, checked(py, py.Object_GetAttrString(module.get(), name)));
    Ref result(py, checked(py, py.Object_CallObject(function.get(), given.get())));
    const std::string error = python::text(py, py.Tuple_GetItem(result.get(), 0));
    if (!error.empty())
        throw Error(error);
    return result.release();
}

int number(const Functions &py, const Ref &tuple, intptr_t index) {
    return static_cast<int>(py.Long_AsLongLong(py.Tuple_GetItem(tuple.get(), index)));
}

}  // namespace

Upscaler open(const Settings &settings, int width, int height, int frames) {
    const Functions &py = python::functions();
    const Gil gil(py);
    const Ref result(py, call(py, "open_clip", pack<4>(py, {convert(py, settings), py.Long_FromLongLong(width),
                                                            py.Long_FromLongLong(height),
                                                            py.Long_FromLongLong(frames)})));
    Upscaler made;
    made.width = number(py, result, 2);
    made.height = number(py, result, 3);
    made.chunk = number(py, result, 4);
    made.before = number(py, result, 5);
    made.after = number(py, result, 6);
    made.note = python::text(py, py.Tuple_GetItem(result.get(), 7));
    made.handle = py.Tuple_GetItem(result.get(), 1);
    py.IncRef(made.handle);
    return made;
}

void run(const Upscaler &upscaler, int first, const std::vector<Planes> &sources, int start,
         const std::vector<Planes> &targets, const std::vector<bool> &cuts) {
    const Functions &py = python::functions();
    const Gil gil(py);
    py.IncRef(upscaler.handle);  // the tuple below takes one reference over
    const Ref result(py, call(py, "fill_chunk",
                              pack<6>(py, {upscaler.handle, py.Long_FromLongLong(first), convert(py, sources),
                                           py.Long_FromLongLong(start), convert(py, targets), convert(py, cuts)})));
}

void close(Upscaler &upscaler) noexcept {
    if (upscaler.handle && python::running()) {
        const Functions &py = python::functions();
        const Gil gil(py);
        py.DecRef(upscaler.handle);
    }
    upscaler.handle = nullptr;
}

std::vector<std::pair<std::string, std::string>> models() {
    const Functions &py = python::functions();
    const Gil gil(py);
    const Ref result(py, call(py, "shipped_models", checked(py, py.Tuple_New(0))));
    std::vector<std::pair<std::string, std::string>> found;
    for (intptr_t i = 1; i + 1 < py.Tuple_Size(result.get()); i += 2)
        found.emplace_back(python::text(py, py.Tuple_GetItem(result.get(), i)),
                           python::text(py, py.Tuple_GetItem(result.get(), i + 1)));
    return found;
}

}  // namespace duovsr::bridge
