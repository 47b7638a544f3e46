// from_cpp.cpp - the whole host API seen by a C++ compiler and linker.
#include <cstdio>
#include <cstring>

#include <penstock/penstock.h>

int main()
{
    pst_error err = PST_ERROR_INIT;
    pst_context *context = nullptr;

    if (pst_context_new(nullptr, &context, &err) != PST_OK) {
        std::fprintf(stderr, "from_cpp: %s\n", err.message);
        return 1;
    }
    pst_context_free(context);
    return std::strcmp(pst_version(), "0.9.0") == 0 ? 0 : 1;
}
