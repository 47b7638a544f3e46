# All that Penstock is compiled against. zstd and ISA-L are not here: they are mapped at run time.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET GLOBAL jansson>=2.11)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET GLOBAL libcurl>=7.88) # libpenstock-net alone
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET GLOBAL libcrypto>=3.0) # likewise
pkg_check_modules(EXPAT REQUIRED IMPORTED_TARGET GLOBAL expat>=2.4) # plugins/s3 alone
pkg_check_modules(URING REQUIRED IMPORTED_TARGET GLOBAL liburing>=2.0) # plugins/directio alone
if(PENSTOCK_BUILD_CLI)
    pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET GLOBAL libpcre2-8)
endif()
if(PENSTOCK_BUILD_TESTS)
    pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET GLOBAL cmocka)
endif()
