// store.cpp - the C API behind a few lines of RAII and exceptions, C++11 or later.
//
//   store file:///tmp/store/        streams an object out, reads a range of it, stats and deletes it
#include <penstock/penstock.h>

#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

namespace
{

// Every fallible call fills an error that its caller owns: collect it and throw.
struct Error {
    pst_error error = PST_ERROR_INIT;

    void check(pst_rc rc) const
    {
        if (rc != PST_OK)
            throw std::runtime_error(error.message);
    }
};

template <typename T, void (*Free)(T *)> struct Deleter {
    void operator()(T *handle) const
    {
        Free(handle);
    }
};
using Context = std::unique_ptr<pst_context, Deleter<pst_context, pst_context_free>>;
using Store = std::unique_ptr<pst_store, Deleter<pst_store, pst_store_free>>;
using Writer = std::unique_ptr<pst_writer, Deleter<pst_writer, pst_writer_free>>;
using Buffer = std::unique_ptr<pst_buffer, Deleter<pst_buffer, pst_buffer_unref>>;
using Attr = std::unique_ptr<pst_attr, Deleter<pst_attr, pst_attr_free>>;

pst_str view(const std::string &text)
{
    return pst_str_of(text.data(), text.size());
}

void run(const std::string &uri)
{
    Error e;
    pst_uri parts;
    e.check(pst_uri_parse(view(uri), &parts, &e.error));
    const std::string key = std::string(parts.key.ptr, parts.key.len) + "numbers.txt";

    pst_context *context_handle = nullptr;
    e.check(pst_context_new(nullptr, &context_handle, &e.error));
    Context context(context_handle);
    pst_store *store_handle = nullptr;
    e.check(pst_store_open(context.get(), view(uri), nullptr, 0, &store_handle, &e.error));
    Store store(store_handle);

    // A writer that goes out of scope before finalize() leaves nothing behind.
    pst_writer *writer_handle = nullptr;
    e.check(pst_writer_open(store.get(), view(key), nullptr, nullptr, &writer_handle, &e.error));
    Writer writer(writer_handle);
    for (int i = 0; i < 100000; i++) {
        const std::string line = std::to_string(i) + "\n";
        e.check(pst_writer_write(writer.get(), line.data(), line.size(), &e.error));
    }
    e.check(pst_writer_finalize(writer.get(), nullptr, &e.error));

    pst_buffer *buffer_handle = nullptr;
    e.check(pst_get_range(store.get(), view(key), 0, 20, nullptr, nullptr, &buffer_handle, nullptr,
                          &e.error));
    Buffer buffer(buffer_handle);
    std::cout.write(static_cast<const char *>(pst_buffer_data(buffer.get())),
                    static_cast<std::streamsize>(pst_buffer_size(buffer.get())));

    pst_attr *attr_handle = nullptr;
    e.check(pst_stat(store.get(), view(key), nullptr, nullptr, &attr_handle, &e.error));
    Attr attr(attr_handle);
    std::cout << "... " << attr->size << " bytes\n";
    e.check(pst_delete(store.get(), view(key), nullptr, nullptr, &e.error));
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::cerr << "usage: store STORE_URI\n";
        return 2;
    }
    try {
        run(argv[1]);
    } catch (const std::exception &e) {
        std::cerr << "store: " << e.what() << '\n';
        return 1;
    }
    return 0;
}
